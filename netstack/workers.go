package netstack

import "sync"

// maxIdle bounds the goroutines that wait for something to do.
const maxIdle = 8

// workers call functions, each on a goroutine of its own that may have called others before:
// its stack has grown then. A new goroutine's stack is copied each time it is too small, frame
// by frame, which was a fifth of what a short connection took.
type workers struct {
	calls chan func() // without a buffer: who sends has met somebody who waits
	done  chan struct{}
	all   sync.WaitGroup

	mu   sync.Mutex
	idle int // that wait; protected by mu
}

func (w *workers) init() {
	w.calls = make(chan func())
	w.done = make(chan struct{})
}

// run has f called. It must not be called after close.
func (w *workers) run(f func()) {
	select {
	case w.calls <- f:
	default:
		w.all.Add(1)
		go w.work(f)
	}
}

// lend is run on a goroutine that the caller has no more use for.
func (w *workers) lend(f func()) {
	select {
	case w.calls <- f:
	default:
		w.all.Add(1)
		w.work(f)
	}
}

func (w *workers) work(f func()) {
	defer w.all.Done()
	for {
		f()
		f = nil // what it refers to may be large
		if !w.rest(1) {
			return
		}
		select {
		case f = <-w.calls:
			w.rest(-1)
		case <-w.done:
			return
		}
	}
}

// rest counts who waits, and reports whether there may be as many.
func (w *workers) rest(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle+n > maxIdle {
		return false
	}
	w.idle += n
	return true
}

// close waits until the last function has returned.
func (w *workers) close() {
	close(w.done)
	w.all.Wait()
}
