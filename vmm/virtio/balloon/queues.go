package balloon

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// maxChains is how many requests one queue gets served in a row, so that Pause has its
// turn.
const maxChains = 16

// activation serves the queues from Activate to Reset.
type activation struct {
	*Device
	virtio.Activation
	workers []*virtio.Worker
	broken  atomic.Bool // the guest broke a queue; nothing is served any more
	failing sync.Once

	inflate, deflate, report pages
	stats                    poll
}

// pages is the state of one queue of requests about pages. It belongs to its worker.
type pages struct {
	queue *virtio.Queue
	chain virtio.Chain
	buf   [maxPages * entryLen]byte
}

// poll is the state of the statistics queue. It belongs to its worker, and to everybody
// while that is paused.
type poll struct {
	queue *virtio.Queue
	chain virtio.Chain
	buf   [maxEntries * entrySize]byte
	held  heldBuffer
	due   time.Time   // when to give the buffer back
	timer *time.Timer // wakes the worker then
}

// heldBuffer is the guest's buffer for statistics while it is ours.
type heldBuffer struct {
	valid bool
	head  uint16
}

func newActivation(d *Device, a virtio.Activation, held heldBuffer) (*activation, error) {
	if len(a.Queues) != len(d.QueueSizes()) || a.Queues[inflateQueue] == nil || a.Queues[deflateQueue] == nil {
		return nil, fmt.Errorf("balloon: %w: the driver enabled no queue to inflate or to deflate", virtio.ErrGuest)
	}
	act := &activation{Device: d, Activation: a}
	act.inflate.queue, act.deflate.queue = a.Queues[inflateQueue], a.Queues[deflateQueue]
	n := statsQueue
	if d.interval != 0 && a.Features&featureStats != 0 {
		act.stats.queue, act.stats.held = a.Queues[n], held
		n++
	}
	if a.Features&featureReporting != 0 {
		act.report.queue = a.Queues[n]
	}
	return act, nil
}

func (a *activation) start() {
	a.serve(a.inflate.queue, func() (bool, error) { return a.drain(&a.inflate, a.takeIn) })
	a.serve(a.deflate.queue, func() (bool, error) { return a.drain(&a.deflate, a.giveOut) })
	if q := a.report.queue; q != nil {
		a.serve(q, func() (bool, error) { return a.drain(&a.report, a.release) })
	}
	if q := a.stats.queue; q != nil {
		kick := q.Kick()
		a.stats.due = time.Now()                                                // the first report of a restored guest is wanted at once
		a.stats.timer = time.AfterFunc(time.Hour, func() { _ = kick.Signal() }) // fails only when it is closed
		a.stats.timer.Stop()
		a.serve(q, a.exchange)
	}
}

// serve runs handle after each kick of q and as long as there is more.
func (a *activation) serve(q *virtio.Queue, handle func() (more bool, err error)) {
	kick := q.Kick()
	a.workers = append(a.workers, virtio.StartWorker(kick, func() {
		if a.broken.Load() {
			return
		}
		more, err := handle()
		switch {
		case err != nil:
			a.breakOff(err)
		case more:
			_ = kick.Signal() // fails only when it is closed
		}
	}))
}

// breakOff gives up the device.
func (a *activation) breakOff(err error) {
	a.broken.Store(true)
	a.failing.Do(func() {
		a.log.Warn("balloon needs a reset", "error", err)
		a.Fail(fmt.Errorf("balloon: %w", err))
	})
}

func (a *activation) Pause() {
	for _, w := range a.workers {
		w.Pause()
	}
}

func (a *activation) Resume() {
	for _, w := range a.workers {
		w.Resume()
	}
}

func (a *activation) End() {
	for _, w := range a.workers {
		w.Stop()
	}
	if a.stats.timer != nil {
		a.stats.timer.Stop()
	}
}

// drain gives up to maxChains chains of p to take; more means that there may be others.
func (a *activation) drain(p *pages, take func(*pages) error) (more bool, err error) {
	p.queue.DisableKicks()
	n := 0
	for ; n < maxChains; n++ {
		ok, err := p.queue.Pop(&p.chain)
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		if err := take(p); err != nil {
			return false, err
		}
		if err := p.queue.Push(p.chain.Head, 0); err != nil {
			return false, err
		}
	}
	if err := p.queue.Notify(); err != nil || n == maxChains {
		return err == nil, err
	}
	return p.queue.EnableKicks()
}

// exchange takes the report that the guest has put into its buffer, and gives the buffer
// back for another one when that is due. There is but one buffer; others stay in the
// queue until it is gone.
func (a *activation) exchange() (more bool, err error) {
	p := &a.stats
	if p.held.valid {
		if wait := time.Until(p.due); wait > 0 {
			p.timer.Reset(wait)
			return false, nil
		}
		p.held.valid = false
		if err := p.queue.Push(p.held.head, 0); err != nil {
			return false, err
		}
		if err := p.queue.Notify(); err != nil {
			return false, err
		}
	}
	ok, err := p.queue.Pop(&p.chain)
	if err != nil {
		return false, err
	}
	if !ok {
		return p.queue.EnableKicks()
	}
	s := parseStats(p.buf[:p.chain.Read(0, p.buf[:])])
	s.Updated = time.Now()
	a.setStats(s)
	p.held = heldBuffer{true, p.chain.Head}
	p.due = s.Updated.Add(a.interval)
	p.timer.Reset(a.interval)
	return false, nil
}
