package vsock

import (
	"fmt"
	"sync"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// maxBurst bounds the packets that one writer sends before others get their turn.
const maxBurst = 64

// rx is the queue to the guest with all who want a buffer of it.
type rx struct {
	mu      sync.Mutex
	act     *activation // nil without a driver; protected by mu, as all below
	queue   *virtio.Queue
	chain   virtio.Chain // scratch
	paused  bool
	starved bool    // the queue is empty and kicks are on
	waiters []*Conn // writers without a buffer

	event    *virtio.Queue // may be nil
	announce bool          // TRANSPORT_RESET is to be sent
	gated    bool          // the guest has not handled TRANSPORT_RESET: it would break new connections
}

// start takes the queues of a new driver, or nil for none.
func (r *rx) start(act *activation, restored bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.act, r.queue, r.event = act, nil, nil
	if act != nil {
		r.queue, r.event = act.queues[rxQueue], act.queues[eventQueue]
	}
	r.starved, r.paused = false, false
	r.announce = restored && r.event != nil
	r.gated = r.announce
	r.wakeAll()
}

func (r *rx) pause(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = on
}

// wakeAll lets all writers that wait for a buffer try again; mu is held.
func (r *rx) wakeAll() {
	for i, c := range r.waiters {
		c.waiting = false
		wake(c.writeWake)
		r.waiters[i] = nil
	}
	r.waiters = r.waiters[:0]
}

// wait remembers a writer until there are buffers; mu is held.
func (r *rx) wait(c *Conn) {
	if !c.waiting {
		c.waiting = true
		r.waiters = append(r.waiters, c)
	}
}

// pop takes a buffer into r.chain; false means none now and a kick later. mu is held.
func (r *rx) pop() (bool, error) {
	if r.act == nil || r.paused || r.gated || r.act.broken.Load() {
		return false, nil
	}
	for {
		ok, err := r.queue.Pop(&r.chain)
		if err != nil {
			return false, err
		}
		if ok {
			break
		}
		if r.starved {
			return false, nil
		}
		r.starved = true
		more, err := r.queue.EnableKicks()
		if err != nil || !more {
			return false, err
		}
	}
	if r.starved {
		r.starved = false
		r.queue.DisableKicks()
	}
	if n := r.chain.WritableLen(); n < headerSize {
		return false, fmt.Errorf("%w: rx buffer of %d bytes holds no packet header", virtio.ErrGuest, n)
	}
	return true, nil
}

// put writes a packet with the bytes of payload that fit into r.chain and gives it to
// the guest. mu is held and pop was true.
func (r *rx) put(h *header, payload []byte) error {
	var b [headerSize]byte
	h.put(&b)
	n := r.chain.Write(0, b[:])
	n += r.chain.Write(headerSize, payload)
	return r.queue.Push(r.chain.Head, uint32(n))
}

// rxKicked serves a kick of the rx queue: there may be buffers. It leaves it to others to
// use those that come later, so more is false.
func (d *Device) rxKicked() (more bool, err error) {
	d.rx.mu.Lock()
	defer d.rx.mu.Unlock()
	err = d.drain()
	d.rx.wakeAll()
	return false, err
}

// flush sends what waits in the outbox as far as there are buffers. No lock is held.
func (d *Device) flush() {
	d.rx.mu.Lock()
	act, err := d.rx.act, d.drain()
	d.rx.mu.Unlock()
	if err != nil {
		d.fail(act, err)
	}
}

// drain is flush with rx.mu held. What others add meanwhile they flush themselves.
func (d *Device) drain() error {
	conns, refusals := d.outbox.len()
	sent := 0
	for range refusals {
		ok, err := d.sendRefusal()
		if err != nil {
			return err
		}
		if !ok {
			conns = 0
			break
		}
		sent++
	}
	for range conns {
		n, more, err := d.sendControl()
		if err != nil {
			return err
		}
		sent += n
		if !more {
			break
		}
	}
	if sent == 0 {
		return nil
	}
	return d.rx.queue.Notify()
}

func (d *Device) sendRefusal() (bool, error) {
	r, ok := d.outbox.peek()
	if !ok {
		return false, nil
	}
	if ok, err := d.rx.pop(); !ok {
		return false, err
	}
	h := header{
		srcCID: hostCID, dstCID: d.cid, srcPort: r.key.host, dstPort: r.key.guest,
		kind: r.kind, op: opReset,
	}
	if err := d.rx.put(&h, nil); err != nil {
		return false, err
	}
	d.stats.refused.Add(1)
	if d.outbox.drop() {
		_ = d.rx.act.queues[txQueue].Kick().Signal() // fails only when it is closed
	}
	return true, nil
}

// sendControl sends the pending packets of the first connection of the outbox; more is
// false when there are no buffers or no connections.
func (d *Device) sendControl() (n int, more bool, err error) {
	c := d.outbox.pop()
	if c == nil {
		return 0, false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.pending != 0 {
		if ok, err := d.rx.pop(); !ok {
			d.outbox.push(c)
			return n, false, err
		}
		h, p := c.nextControl()
		if err := d.rx.put(&h, nil); err != nil {
			return n, false, err
		}
		c.sent(p)
		n++
	}
	return n, true, nil
}

// send writes as much of p as it can; wait means that c.writeWake will say when to try
// again. No lock is held.
func (d *Device) send(c *Conn, p []byte) (n int, wait bool, err error) {
	d.rx.mu.Lock()
	act, broken := d.rx.act, d.drain()
	if broken == nil {
		n, wait, broken, err = d.sendData(c, p)
	}
	if wait && broken == nil {
		broken = d.drain() // the request for credit
	}
	d.rx.mu.Unlock()
	if broken != nil {
		d.fail(act, broken) // ends c too
	}
	return n, wait, err
}

// sendData is send with rx.mu held; broken means that the guest broke the queue.
func (d *Device) sendData(c *Conn, p []byte) (n int, wait bool, broken, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.canWrite(); err != nil {
		return 0, false, nil, err
	}
	if c.phase == connecting {
		return 0, true, nil, nil
	}
	packets := 0
	for n < len(p) && packets < maxBurst {
		allowed := c.credit.available()
		if allowed == 0 {
			wait = true
			if !c.asked {
				c.asked = true
				c.post(askCredit)
			}
			break
		}
		ok, err := d.rx.pop()
		if err != nil {
			return n, false, err, nil
		}
		if !ok {
			wait = true
			d.rx.wait(c)
			break
		}
		// A buffer of nothing but a header becomes a credit update.
		op, size := opCreditUpdate, min(d.rx.chain.WritableLen()-headerSize, uint64(allowed), uint64(len(p)-n))
		if size > 0 {
			op = opData
		}
		h := c.header(op)
		h.length = uint32(size)
		if err := d.rx.put(&h, p[n:n+int(size)]); err != nil {
			return n, false, err, nil
		}
		c.credit.spend(h.length)
		n += int(size)
		packets++
	}
	d.stats.sent.Add(uint64(n))
	if packets > 0 {
		broken = d.rx.queue.Notify()
	}
	return n, wait, broken, nil
}
