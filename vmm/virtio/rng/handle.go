package rng

import (
	"fmt"
	"io"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// activation serves the queue from Activate to Reset.
type activation struct {
	*Device
	queue  *virtio.Queue
	fail   func(error)
	worker *virtio.Worker // it must not use this field

	// Of the worker's goroutine.
	broken bool // the guest broke the queue; nothing is served any more
	chain  virtio.Chain
	buf    [maxFill]byte
	bucket bucket
	warned time.Time   // of a failed source
	timer  *time.Timer // wakes the worker when there is more to give
}

func startActivation(d *Device, a virtio.Activation) *activation {
	act := &activation{Device: d, queue: a.Queues[0], fail: a.Fail, bucket: bucket{rate: d.rate, burst: Burst}}
	kick := act.queue.Kick()
	act.timer = time.AfterFunc(time.Hour, func() { _ = kick.Signal() }) // fails only when it is closed
	act.timer.Stop()
	act.worker = virtio.StartWorker(kick, act.run)
	return act
}

func (a *activation) Pause()  { a.worker.Pause() }
func (a *activation) Resume() { a.worker.Resume() }

func (a *activation) End() {
	a.worker.Stop()
	a.timer.Stop()
}

// run serves what is in the queue as far as the rate goes.
func (a *activation) run() {
	if a.broken {
		return
	}
	if err := a.drain(); err != nil {
		a.broken = true
		a.log.Warn("entropy device needs a reset", "error", err)
		a.fail(fmt.Errorf("rng: %w", err))
	}
}

func (a *activation) drain() error {
	a.queue.DisableKicks()
	for range a.queue.Size() {
		if wait := a.bucket.wait(time.Now()); wait > 0 {
			a.timer.Reset(wait) // kicks stay disabled
			return a.queue.Notify()
		}
		ok, err := a.queue.Pop(&a.chain)
		if err != nil {
			return err
		}
		if !ok {
			more, err := a.queue.EnableKicks()
			if err != nil {
				return err
			}
			if more {
				continue
			}
			return a.queue.Notify()
		}
		n := a.fill()
		if err := a.queue.Push(a.chain.Head, n); err != nil {
			return err
		}
	}
	_ = a.queue.Kick().Signal() // Pause has its turn; fails only when it is closed
	return a.queue.Notify()
}

// fill writes random bytes to the chain and returns how many.
func (a *activation) fill() uint32 {
	b := a.buf[:min(a.chain.WritableLen(), maxFill)]
	// A request costs something even if it gets nothing.
	a.bucket.take(time.Now(), max(len(b), minCost))
	// The source fills memory of ours: one that looks at its own output must not see
	// what the guest makes of it.
	if _, err := io.ReadFull(a.source, b); err != nil {
		a.warn(err)
		return 0
	}
	n := a.chain.Write(0, b)
	clear(b)
	a.served.Add(uint64(n))
	return uint32(n)
}

// warnInterval is the least time between two log lines.
const warnInterval = 5 * time.Second

func (a *activation) warn(err error) {
	if now := time.Now(); now.Sub(a.warned) >= warnInterval {
		a.warned = now
		a.log.Warn("entropy source failed", "error", err)
	}
}
