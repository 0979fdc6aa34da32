package net

import (
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// A driver wants its buffers back, but of a small frame it hardly matters when: it looks at
// both queues at each interrupt, and the answer to what it sent is one. So the guest is told
// of few small frames by an interrupt of their own only if nothing else has told it for a
// while. What is large, and what is many, may keep a socket of the guest's from sending on,
// and is told of at once.
const (
	smallFrame = 1600 // bytes of a chain, more than a frame that is no segments has
	fewFrames  = 16
	patience   = 10 * time.Millisecond
)

// activation serves the queues from Activate to Reset.
type activation struct {
	*Device
	queue       *virtio.Queue // from the guest
	fail        func(error)
	can         abilities // of the guest to leave things to us
	receiver    *virtio.Worker
	transmitter *virtio.Worker // it must not use these two
	timer       *time.Timer    // wakes the transmitter when frames may pass again
	late        *time.Timer    // wakes it to tell the guest of small frames
	elapsed     atomic.Bool    // late has

	// Of the transmitter's goroutine.
	broken bool // the guest broke the queue; nothing is served any more
	untold int  // frames that the guest has back and was not told of
	large  bool // one of them is not small
	armed  bool // late will wake the transmitter
	limit  limiter
	chain  virtio.Chain
	header [headerSize]byte
	frame  [][]byte
}

func startActivation(d *Device, a virtio.Activation) *activation {
	act := &activation{Device: d, queue: a.Queues[transmitQueue], fail: d.failed(a.Fail), can: abilities{
		checksum: a.Features&featureChecksum != 0,
		tcp4:     a.Features&featureHostTSO4 != 0, tcp6: a.Features&featureHostTSO6 != 0, udp: a.Features&featureHostUSO != 0,
	}}
	act.limit = newLimiter(d.egress)
	act.timer = time.AfterFunc(time.Hour, func() { _ = act.queue.Kick().Signal() }) // fails only when it is closed
	act.timer.Stop()
	act.late = time.AfterFunc(time.Hour, func() {
		act.elapsed.Store(true)
		_ = act.queue.Kick().Signal()
	})
	act.late.Stop()
	d.rx.attach(a, act.fail)
	act.receiver = virtio.StartWorker(a.Queues[receiveQueue].Kick(), func() {
		if d.rx.refilled() {
			d.backend.Ready()
		}
	})
	act.transmitter = virtio.StartWorker(act.queue.Kick(), act.run)
	return act
}

func (a *activation) Pause() {
	a.rx.pause()
	a.receiver.Pause()
	a.transmitter.Pause()
	a.settle()
}

func (a *activation) Resume() {
	a.rx.resume()
	a.receiver.Resume()
	a.transmitter.Resume()
	a.receiver.Wake()
}

func (a *activation) End() {
	a.rx.detach()
	a.receiver.Stop()
	a.transmitter.Stop()
	a.timer.Stop()
	a.late.Stop()
}

// run takes what the guest has sent.
func (a *activation) run() {
	if a.broken {
		return
	}
	a.check(a.drain())
}

func (a *activation) check(err error) {
	if err != nil {
		a.broken = true
		a.fail(err)
	}
}

// settle tells the guest what it was not told yet: a saved one would not be. The transmitter
// is paused.
func (a *activation) settle() {
	if !a.broken && a.untold > 0 {
		a.check(a.tell())
	}
}

// tell interrupts the guest for the frames that it has back, if it wants that.
func (a *activation) tell() error {
	a.untold, a.large = 0, false
	return a.queue.Notify()
}

// tellLater is tell, unless it may be later.
func (a *activation) tellLater() error {
	elapsed := a.elapsed.Swap(false)
	if elapsed {
		a.armed = false
	}
	if elapsed || a.large || a.untold > fewFrames {
		return a.tell()
	}
	return nil
}

// returned counts a frame that the guest has back. The timer runs on when the guest was told
// of all: to set it is a system call or two.
func (a *activation) returned(size uint64) {
	if !a.armed {
		a.armed = true
		a.late.Reset(a.patience)
	}
	a.untold++
	a.large = a.large || size > smallFrame
}

func (a *activation) drain() error {
	a.queue.DisableKicks()
	for range a.queue.Size() {
		if wait := a.limit.wait(); wait > 0 {
			a.timer.Reset(wait) // kicks stay disabled
			return a.tell()
		}
		ok, err := a.queue.Pop(&a.chain)
		if err != nil {
			return err
		}
		if !ok {
			// The guest's buffers first: it may be waiting for them.
			if err := a.tellLater(); err != nil {
				return err
			}
			more, err := a.queue.EnableKicks()
			if err != nil || !more {
				return err
			}
			a.queue.DisableKicks()
			continue
		}
		size := a.chain.ReadableLen()
		a.transmit()
		if err := a.queue.Push(a.chain.Head, 0); err != nil {
			return err
		}
		a.returned(size)
	}
	_ = a.queue.Kick().Signal() // Pause has its turn; fails only when it is closed
	return a.tell()
}

// transmit hands one frame to the backend, unless it makes no sense.
func (a *activation) transmit() {
	size := a.chain.ReadableLen()
	if a.chain.Read(0, a.header[:]) != headerSize {
		a.stats.sentDropped.Add(1)
		return
	}
	size -= headerSize
	o := parseHeader(&a.header)
	if !o.valid(size, a.can) {
		a.stats.sentDropped.Add(1)
		return
	}
	a.frame = virtio.Cut(a.frame[:0], a.chain.Readable, headerSize, size)
	a.limit.take(size)
	a.stats.sent.Add(1)
	a.stats.sentBytes.Add(size)
	a.backend.Transmit(o, a.frame)
}
