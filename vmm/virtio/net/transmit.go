package net

import (
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
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

	// Of the transmitter's goroutine.
	broken bool // the guest broke the queue; nothing is served any more
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
}

// run takes what the guest has sent.
func (a *activation) run() {
	if a.broken {
		return
	}
	if err := a.drain(); err != nil {
		a.broken = true
		a.fail(err)
	}
}

func (a *activation) drain() error {
	a.queue.DisableKicks()
	for range a.queue.Size() {
		if wait := a.limit.wait(); wait > 0 {
			a.timer.Reset(wait) // kicks stay disabled
			return a.queue.Notify()
		}
		ok, err := a.queue.Pop(&a.chain)
		if err != nil {
			return err
		}
		if !ok {
			// The guest's buffers first: it may be waiting for them.
			if err := a.queue.Notify(); err != nil {
				return err
			}
			more, err := a.queue.EnableKicks()
			if err != nil || !more {
				return err
			}
			a.queue.DisableKicks()
			continue
		}
		a.transmit()
		if err := a.queue.Push(a.chain.Head, 0); err != nil {
			return err
		}
	}
	_ = a.queue.Kick().Signal() // Pause has its turn; fails only when it is closed
	return a.queue.Notify()
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
