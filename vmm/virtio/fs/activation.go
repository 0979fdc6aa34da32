package fs

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	// maxWorkers is how many requests may wait for disks at a time, those that the
	// goroutines of the queues serve themselves not counted.
	maxWorkers = 8
	// slowRequest is how long a request takes that shows that the host's disks are busy;
	// for slowTime after it no queue's goroutine serves requests by itself.
	slowRequest = 2 * time.Millisecond
	slowTime    = 100 * time.Millisecond
)

// activation serves the queues from Activate to Reset.
type activation struct {
	*Device
	fail  func(error)
	lanes []*lane // nil where the driver left a queue alone
	aside *aside

	broken    atomic.Bool    // the guest broke a queue; nothing is served any more
	slowUntil atomic.Int64   // unix nanoseconds
	work      chan *request  // for the workers; never full
	helped    atomic.Int32   // workers that were started
	busy      atomic.Int32   // requests given to workers
	flight    sync.WaitGroup // the same, to wait for
	wg        sync.WaitGroup // workers
}

func startActivation(d *Device, a virtio.Activation) (*activation, error) {
	act := &activation{Device: d, fail: a.Fail}
	total := 0
	for _, q := range a.Queues {
		if q == nil {
			continue
		}
		act.lanes = append(act.lanes, &lane{activation: act, queue: q})
		total += int(q.Size())
	}
	act.work = make(chan *request, total)
	var err error
	act.aside, err = newAside(act)
	if err != nil {
		return nil, err
	}
	act.aside.start()
	for _, l := range act.lanes {
		l.start()
	}
	return act, nil
}

// Pause returns when the goroutines of the queues rest and the workers have nothing to
// do.
func (a *activation) Pause() {
	for _, l := range a.lanes {
		l.worker.Pause()
	}
	a.flight.Wait()
	a.aside.worker.Pause()
}

func (a *activation) Resume() {
	a.aside.worker.Resume()
	for _, l := range a.lanes {
		l.worker.Resume()
	}
}

func (a *activation) End() {
	for _, l := range a.lanes {
		l.worker.Stop()
	}
	close(a.work)
	a.wg.Wait()
	a.aside.end()
}

// breakOff gives up all queues.
func (a *activation) breakOff(err error) {
	if a.broken.Swap(true) {
		return
	}
	a.log.Warn("file system device needs a reset", "tag", a.tag(), "error", err)
	a.fail(fmt.Errorf("fs: %w", err))
}

// enqueue gives r to a worker.
func (a *activation) enqueue(r *request) {
	a.flight.Add(1)
	if n := a.helped.Load(); a.busy.Add(1) > n && n < maxWorkers && a.helped.CompareAndSwap(n, n+1) {
		a.wg.Go(a.help)
	}
	a.work <- r
}

// help is a worker.
func (a *activation) help() {
	for r := range a.work {
		l := r.lane
		err := l.execute(r)
		a.busy.Add(-1)
		if err == nil {
			err = l.notify()
		}
		if err != nil {
			a.breakOff(err)
		}
		a.flight.Done()
	}
}

// isSlow reports that the host's disks were busy a moment ago.
func (a *activation) isSlow() bool {
	until := a.slowUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}
