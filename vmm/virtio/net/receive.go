package net

import (
	"fmt"
	"sync"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// maxBuffers is how many buffers a frame may fill. Linux offers 1.5 KiB each or more, and
// so 44 for the largest frame.
const maxBuffers = 64

// receiver puts frames into the guest's buffers.
type receiver struct {
	stats   *counters
	ingress *Limit

	mu      sync.Mutex
	queue   *virtio.Queue // nil while there is no driver; protected by mu, as all below
	fail    func(error)
	can     abilities // of the guest to take things that we leave to it
	most    int       // buffers of one frame
	broken  bool      // the guest broke the queue
	paused  bool
	starved bool // somebody waits for room
	pushed  bool // something was, since the last notification
	limit   limiter
	timer   *time.Timer // wakes whoever waits when frames may pass again

	// held are chains that no frame has filled yet, room their bytes.
	held   [maxBuffers]virtio.Chain
	count  int
	room   uint64
	used   [maxBuffers]virtio.Used
	header [headerSize]byte
}

func (r *receiver) attach(a virtio.Activation, fail func(error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue, r.fail = a.Queues[receiveQueue], fail
	r.broken, r.paused, r.starved, r.pushed = false, false, true, false // whoever waited may try again
	r.count, r.room = 0, 0
	r.limit = newLimiter(r.ingress)
	kick := r.queue.Kick()
	r.timer = time.AfterFunc(time.Hour, func() { _ = kick.Signal() }) // fails only when it is closed
	r.timer.Stop()
	r.most = 1
	if a.Features&featureMergeable != 0 {
		r.most = maxBuffers
	}
	r.can = abilities{
		checksum: a.Features&featureGuestChecksum != 0,
		tcp4:     a.Features&featureGuestTSO4 != 0, tcp6: a.Features&featureGuestTSO6 != 0,
	}
}

func (r *receiver) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue, r.count, r.room = nil, 0, 0
	r.timer.Stop()
}

// pause gives back what is held: a saved guest would wait for it for ever. It counts as
// empty there, and is offered again.
func (r *receiver) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
	if r.queue == nil || r.broken || r.count == 0 {
		return
	}
	for i := range r.count {
		r.used[i] = virtio.Used{Head: r.held[i].Head}
	}
	err := r.queue.PushAll(r.used[:r.count])
	r.count, r.room = 0, 0
	if err == nil {
		err = r.queue.Notify()
	}
	r.check(err)
}

func (r *receiver) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = false
}

// check breaks the receiver if err is not nil; mu is held.
func (r *receiver) check(err error) {
	if err != nil {
		r.broken = true
		r.fail(err)
	}
}

// refilled reports that somebody waits for room, and that there may be some.
func (r *receiver) refilled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.starved && !r.paused
	if was {
		r.starved = false
	}
	return was
}

// Deliver copies a frame of MinFrame to MaxFrame bytes to the guest, which sees it at
// once but need not look before Flush. It returns false if there is no room: the
// Backend's Ready is called when there may be some. A frame that the guest cannot take,
// or that nobody is there for, is dropped.
func (d *Device) Deliver(o Offload, frame [][]byte) bool {
	r := &d.rx
	r.mu.Lock()
	defer r.mu.Unlock()
	var size uint64
	for _, p := range frame {
		size += uint64(len(p))
	}
	if r.queue == nil || r.broken || !o.valid(size, r.can) {
		r.stats.receivedDropped.Add(1)
		return true
	}
	if r.paused {
		r.starved = true
		return false
	}
	if wait := r.limit.wait(); wait > 0 {
		r.starved = true
		r.timer.Reset(wait)
		return false
	}
	ok, err := r.gather(size + headerSize)
	if err != nil {
		r.stats.receivedDropped.Add(1)
		r.check(err)
		return true
	}
	if !ok {
		return false
	}
	if r.room < size+headerSize { // as many buffers as there may be are too small
		r.stats.receivedDropped.Add(1)
		return true
	}
	if err := r.fill(&o, frame); err != nil {
		r.check(err)
		return true
	}
	r.pushed = true
	r.limit.take(size)
	r.stats.received.Add(1)
	r.stats.receivedBytes.Add(size)
	return true
}

// Flush tells the guest of the frames delivered, if it wants to know.
func (d *Device) Flush() {
	r := &d.rx
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue != nil && !r.broken && !r.paused && r.pushed {
		r.pushed = false
		r.check(r.queue.Notify())
	}
}

// gather takes chains until they have room for n bytes, or are as many as may be; false
// means that the guest has no more now, and a kick later.
func (r *receiver) gather(n uint64) (bool, error) {
	for r.room < n && r.count < r.most {
		c := &r.held[r.count]
		ok, err := r.queue.Pop(c)
		if err != nil {
			return false, err
		}
		if !ok {
			more, err := r.queue.EnableKicks()
			if err != nil {
				return false, err
			}
			if more {
				continue
			}
			r.starved = true
			return false, r.queue.Notify() // it must see what it has, to make room
		}
		if c.WritableLen() < headerSize {
			return false, fmt.Errorf("%w: receive buffer of %d bytes", virtio.ErrGuest, c.WritableLen())
		}
		r.count++
		r.room += c.WritableLen()
	}
	r.queue.DisableKicks()
	return true, nil
}

// fill writes header and frame to the first chains held, which have room for them, and
// returns these to the guest all at once.
func (r *receiver) fill(o *Offload, frame [][]byte) error {
	n, at := 0, uint64(headerSize) // chain, and offset in it
	for _, p := range frame {
		for len(p) > 0 {
			if at == r.held[n].WritableLen() {
				r.used[n] = virtio.Used{Head: r.held[n].Head, Len: uint32(at)}
				n, at = n+1, 0
			}
			k := r.held[n].Write(at, p)
			p, at = p[k:], at+uint64(k)
		}
	}
	r.used[n] = virtio.Used{Head: r.held[n].Head, Len: uint32(at)}
	n++
	o.put(&r.header, n)
	r.held[0].Write(0, r.header[:])
	for i := range n {
		r.room -= r.held[i].WritableLen()
	}
	for i := n; i < r.count; i++ { // swap: each keeps its scratch memory
		r.held[i-n], r.held[i] = r.held[i], r.held[i-n]
	}
	r.count -= n
	return r.queue.PushAll(r.used[:n])
}
