package fs

import (
	"slices"
	"sync"
	"time"

	"github.com/gomsb/gomsb/vmm/event"
	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	// minRest and maxRest bound how long a request rests before it is tried again; each
	// rest is twice as long as the one before.
	minRest = time.Millisecond
	maxRest = 32 * time.Millisecond
)

// aside keeps the requests that wait for others, and tries them again. They hold no
// goroutine, so that as many of them may wait as the queues have entries.
type aside struct {
	act    *activation
	wake   *event.Event
	worker *virtio.Worker

	mu    sync.Mutex
	list  []*request  // protected by mu
	timer *time.Timer // wakes the worker when the first of list is due; protected by mu
	ended bool        // protected by mu

	due []*request // of one run; the worker's alone
}

func newAside(act *activation) (*aside, error) {
	wake, err := event.New()
	return &aside{act: act, wake: wake}, err
}

func (a *aside) start() { a.worker = virtio.StartWorker(a.wake, a.run) }

func (a *aside) end() {
	a.worker.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.timer != nil {
		a.timer.Stop()
	}
	_ = a.wake.Close() // a timer that fires now signals in vain
}

// add puts r aside.
func (a *aside) add(r *request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.rest = min(max(2*r.rest, minRest), maxRest)
	r.due = time.Now().Add(r.rest)
	a.list = append(a.list, r)
	a.schedule()
}

// schedule sets the timer; mu is locked.
func (a *aside) schedule() {
	if len(a.list) == 0 || a.ended {
		return
	}
	first := slices.MinFunc(a.list, func(x, y *request) int { return x.due.Compare(y.due) })
	d := max(time.Until(first.due), 0)
	if a.timer == nil {
		a.timer = time.AfterFunc(d, func() { _ = a.wake.Signal() }) // fails only after end
		return
	}
	a.timer.Reset(d)
}

// run tries what is due.
func (a *aside) run() {
	now := time.Now()
	a.mu.Lock()
	a.due = a.due[:0]
	a.list = slices.DeleteFunc(a.list, func(r *request) bool {
		if r.due.After(now) {
			return false
		}
		a.due = append(a.due, r)
		return true
	})
	a.schedule()
	a.mu.Unlock()
	for _, r := range a.due {
		if a.act.broken.Load() {
			return
		}
		err := r.lane.execute(r)
		if err == nil {
			err = r.lane.notify()
		}
		if err != nil {
			a.act.breakOff(err)
		}
	}
}

// waiting is how many requests are aside.
func (a *aside) waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.list)
}
