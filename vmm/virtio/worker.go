package virtio

import (
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/event"
)

// Worker is the goroutine that serves a queue: it runs a function once at its start and
// after each kick, unless it is paused.
type Worker struct {
	kick   *event.Event
	handle func()
	done   chan struct{}

	// gate is held while handle runs, and by Pause until Resume.
	gate    sync.Mutex
	stopped atomic.Bool
	mu      sync.Mutex
	paused  bool // protected by mu
}

// StartWorker starts a worker on kick. handle must not block for long, because Pause and
// Stop wait for it.
func StartWorker(kick *event.Event, handle func()) *Worker {
	return startWorker(kick, handle, (*Worker).run)
}

// StartPromptWorker is StartWorker for a queue whose driver does nothing until a request
// is served. It takes a thread, and fewer context switches to wake up (docs/performance.md).
func StartPromptWorker(kick *event.Event, handle func()) *Worker {
	return startWorker(kick, handle, (*Worker).runPrompt)
}

func startWorker(kick *event.Event, handle func(), run func(*Worker)) *Worker {
	w := &Worker{kick: kick, handle: handle, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		run(w)
	}()
	return w
}

func (w *Worker) run() { _ = w.kick.Serve(w.once) } // an error says that it was closed

func (w *Worker) runPrompt() {
	for !w.once() && w.kick.Block() == nil {
	}
}

// once runs the function, or reports that it is over.
func (w *Worker) once() (over bool) {
	w.gate.Lock()
	defer w.gate.Unlock()
	if w.stopped.Load() {
		return true
	}
	w.handle()
	return false
}

// Wake runs the function soon, as a kick does.
func (w *Worker) Wake() { _ = w.kick.Signal() } // fails only after Close, when nobody listens

// Pause returns when the function does not run, and keeps it from running.
func (w *Worker) Pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.paused {
		w.paused = true
		w.gate.Lock()
	}
}

// Resume undoes Pause.
func (w *Worker) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused {
		w.paused = false
		w.gate.Unlock()
	}
}

// Stop ends the goroutine and waits for it; the function does not run again, also if the
// worker is paused. The worker cannot be started again.
func (w *Worker) Stop() {
	w.stopped.Store(true)
	w.Resume()
	w.Wake()
	<-w.done
}
