package virtio

import (
	"sync"
	"time"
)

const (
	firstReminder = 10 * time.Millisecond
	lastReminder  = time.Second
)

// reminder calls a function again and again, ever more seldom, until it says that it was
// the last time. The zero value but for the function is ready; methods are safe for
// concurrent use.
type reminder struct {
	call func() (again bool)

	mu    sync.Mutex
	timer *time.Timer   // nil: none is due; protected by mu
	wait  time.Duration // before the next call; protected by mu
}

// start has the function called soon.
func (r *reminder) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wait = firstReminder
	r.arm()
}

// arm sets the timer; mu is held.
func (r *reminder) arm() {
	if r.timer == nil {
		r.timer = time.AfterFunc(r.wait, r.due)
	} else {
		r.timer.Reset(r.wait)
	}
}

func (r *reminder) due() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil || !r.call() {
		return
	}
	r.wait = min(2*r.wait, lastReminder)
	r.arm()
}

// stop returns when the function does not run and will not.
func (r *reminder) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}
