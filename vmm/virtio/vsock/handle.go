package vsock

import (
	"sync"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// tx is the queue from the guest.
type tx struct {
	mu     sync.Mutex
	act    *activation // nil without a driver; protected by mu, as all below
	queue  *virtio.Queue
	chain  virtio.Chain // scratch
	paused bool
}

// start takes the queue of a new driver, or nil for none.
func (t *tx) start(act *activation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.act, t.queue, t.paused = act, nil, false
	if act != nil {
		t.queue = act.queues[txQueue]
	}
}

func (t *tx) pause(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.paused = on
}

// txKicked takes some of the guest's packets and sends the answers; more means that
// there may be more packets now.
func (d *Device) txKicked() (more bool, err error) {
	more, err = d.takeBatch()
	d.flush()
	return more, err
}

// takeBatch takes at most a queue's worth of packets; more means that there may be more.
func (d *Device) takeBatch() (more bool, err error) {
	t := &d.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.act == nil || t.paused || t.act.broken.Load() {
		return false, nil
	}
	t.queue.DisableKicks()
	taken := 0
	for range t.queue.Size() {
		if d.outbox.full() {
			break // outbox.drop leads to a kick
		}
		ok, err := t.queue.Pop(&t.chain)
		if err != nil {
			return false, err
		}
		if !ok {
			more, err = t.queue.EnableKicks()
			if err != nil {
				return false, err
			}
			return more, d.finishBatch(taken)
		}
		d.handle(&t.chain)
		if err := t.queue.Push(t.chain.Head, 0); err != nil {
			return false, err
		}
		taken++
	}
	// Either the batch is full, or the outbox is; in the latter case the flush that
	// follows makes room, or a kick comes when a later one does.
	return taken > 0, d.finishBatch(taken)
}

func (d *Device) finishBatch(taken int) error {
	if taken == 0 {
		return nil
	}
	return d.tx.queue.Notify()
}

// handle acts on one packet of the guest.
func (d *Device) handle(chain *virtio.Chain) {
	var b [headerSize]byte
	if chain.Read(0, b[:]) < headerSize {
		d.stats.dropped.Add(1)
		return
	}
	h := parseHeader(&b)
	if h.srcCID != d.cid || h.dstCID != hostCID {
		d.stats.dropped.Add(1)
		d.complain("packet with a wrong address", &h)
		return
	}
	if h.kind != typeStream {
		d.refuse(&h)
		return
	}
	c := d.table.get(h.key())
	if uint64(h.length) != chain.ReadableLen()-headerSize {
		d.stats.dropped.Add(1)
		d.complain("packet of a wrong length", &h)
		if c != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.kill(ErrProtocol)
		}
		return
	}
	switch {
	case c != nil:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.receive(&h, chain.Readable)
	case h.op == opRequest:
		d.accept(&h)
	default:
		d.refuse(&h)
	}
}

// refuse answers a packet of no connection, unless it is such an answer itself.
func (d *Device) refuse(h *header) {
	if h.op != opReset {
		d.outbox.refuse(refusal{key: h.key(), kind: h.kind})
	}
}

// accept offers a connection that the guest asks for to the listener.
func (d *Device) accept(h *header) {
	c := newConn(d, h.key())
	_ = c.credit.learn(h) // a request that counts bytes as taken dies with the first real packet
	if d.listener == nil || d.table.add(c) != nil {
		d.refuse(h)
		return
	}
	taken := d.listener(h.dstPort, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase != connecting: // closed meanwhile
	case taken:
		c.post(sendResponse)
	default:
		c.err = ErrRefused
		c.doom()
		wake(c.readWake)
		wake(c.writeWake)
	}
}
