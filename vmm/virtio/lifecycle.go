package virtio

import (
	"errors"
	"sync"
)

// ErrClosed reports the use of a device after Close.
var ErrClosed = errors.New("device is closed")

// Running is what a device runs from Activate to Reset.
type Running interface {
	// Pause returns when nothing touches guest memory; Resume lets it go on.
	Pause()
	Resume()
	// End stops everything for good, also while paused, and waits for it.
	End()
}

// Lifecycle serves Activate, Pause, Resume, Reset and Close for a device that runs a T
// while it is active. Its zero value is a device that is not.
type Lifecycle[T Running] struct {
	mu      sync.Mutex // held by every method, and so while they call a function
	run     T
	running bool
	closed  bool
}

// Start is for Activate: it calls start, whose T runs from then on. Its error is that of
// start, or ErrClosed.
func (l *Lifecycle[T]) Start(start func() (T, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	run, err := start()
	if err == nil {
		l.run, l.running = run, true
	}
	return err
}

// Pause pauses what runs.
func (l *Lifecycle[T]) Pause() {
	l.With(func(run T, ok bool) {
		if ok {
			run.Pause()
		}
	})
}

// Resume undoes Pause.
func (l *Lifecycle[T]) Resume() {
	l.With(func(run T, ok bool) {
		if ok {
			run.Resume()
		}
	})
}

// Reset ends what runs and then calls forget, if it is not nil and the device not closed.
func (l *Lifecycle[T]) Reset(forget func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	if forget != nil && !l.closed {
		forget()
	}
}

// Close ends what runs for good. The first call returns what free returns, unless that
// is nil, others do nothing.
func (l *Lifecycle[T]) Close(free func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	if l.closed {
		return nil
	}
	l.closed = true
	if free == nil {
		return nil
	}
	return free()
}

// With calls f with what runs, or with false. Nothing starts or ends meanwhile.
func (l *Lifecycle[T]) With(f func(run T, ok bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.run, l.running)
}

func (l *Lifecycle[T]) end() {
	if l.running {
		l.run.End()
		var none T
		l.run, l.running = none, false
	}
}
