package vsock

import "sync"

// maxResets bounds the resets for packets of no connection that wait for a buffer.
const maxResets = 32

// refusal is a reset to send for a packet that belongs to no connection.
type refusal struct {
	key  key
	kind uint16 // socket type of the packet
}

// outbox holds what waits for a buffer of the guest: connections with pending packets,
// each once, and refusals. Its size is bounded by the table's limit and maxResets.
type outbox struct {
	mu          sync.Mutex
	first, last *Conn              // protected by mu
	size        int                // connections from first to last; protected by mu
	refusals    [maxResets]refusal // ring; protected by mu
	head, count int                // protected by mu
	stalled     bool               // the tx queue waits for refuse to succeed; protected by mu
}

// push queues c unless it is queued.
func (o *outbox) push(c *Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.queued {
		return
	}
	c.queued, c.next = true, nil
	if o.last == nil {
		o.first = c
	} else {
		o.last.next = c
	}
	o.last = c
	o.size++
}

// pop takes the first connection, nil if there is none.
func (o *outbox) pop() *Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.first
	if c == nil {
		return nil
	}
	o.first = c.next
	if o.first == nil {
		o.last = nil
	}
	c.queued, c.next = false, nil
	o.size--
	return c
}

// len is the number of connections and of refusals.
func (o *outbox) len() (conns, refusals int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size, o.count
}

// full reports that there is no room for a refusal; if so the next drop will report that
// the tx queue waits.
func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stalled = o.count == maxResets
	return o.stalled
}

// refuse queues r unless the same waits already. Precondition: full was false, and
// nobody else refuses.
func (o *outbox) refuse(r refusal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.count {
		if o.refusals[(o.head+i)%maxResets] == r {
			return
		}
	}
	o.refusals[(o.head+o.count)%maxResets] = r
	o.count++
}

// peek is the oldest refusal.
func (o *outbox) peek() (refusal, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refusals[o.head], o.count > 0
}

// drop removes the oldest refusal; waited reports that the tx queue stands still for it.
func (o *outbox) drop() (waited bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.head = (o.head + 1) % maxResets
	o.count--
	waited, o.stalled = o.stalled, false
	return waited
}

// clear forgets everything.
func (o *outbox) clear() {
	for o.pop() != nil {
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.head, o.count, o.stalled = 0, 0, false
}
