package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ sig syscall.Signal }

func (i interrupted) Error() string { return fmt.Sprintf("interrupted: %s", i.sig) }

// Is makes it context.Canceled for those who ask for the cause only.
func (i interrupted) Is(target error) bool { return target == context.Canceled }

// signalGrace is how long a guest command may take to end after a signal was passed on
// to it.
const signalGrace = 2 * time.Second

// signals turns SIGINT, SIGTERM and SIGHUP into an orderly end. The first one goes to the
// guest command, if one runs, and ends everything after a grace period; the second ends
// everything at once; the third ends this process, whose sandbox then ends by itself.
type signals struct {
	ch     chan os.Signal
	cancel context.CancelCauseFunc
	done   chan struct{}
	exit   func(code int)

	mu      sync.Mutex
	forward func(syscall.Signal) // nil: nobody to pass it on to. Protected by mu.
	count   int                  // protected by mu
	first   syscall.Signal       // protected by mu
	grace   *time.Timer          // protected by mu
}

// catchSignals returns a context that they end.
func catchSignals(parent context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(parent)
	s := &signals{ch: make(chan os.Signal, 4), cancel: cancel, done: make(chan struct{}), exit: os.Exit}
	signal.Notify(s.ch, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		defer close(s.done)
		for sig := range s.ch {
			s.handle(sig.(syscall.Signal)) // all signals of Unix are
		}
	}()
	return ctx, s
}

func (s *signals) handle(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if s.count == 1 {
		s.first = sig
	}
	switch {
	case s.count == 1 && s.forward != nil:
		forward := s.forward
		go forward(sig)
		s.grace = time.AfterFunc(signalGrace, func() { s.cancel(interrupted{sig}) })
	case s.count <= 2:
		s.cancel(interrupted{sig})
	default:
		s.exit(exitBySig + int(sig))
	}
}

// passOn lets f have the first signal until the returned function is called.
func (s *signals) passOn(f func(syscall.Signal)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forward = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forward = nil
	}
}

// caught returns the first signal that came, 0 if none did.
func (s *signals) caught() syscall.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// release gives the signals their usual effect back.
func (s *signals) release() {
	signal.Stop(s.ch)
	close(s.ch)
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grace != nil {
		s.grace.Stop()
	}
	s.cancel(nil)
}
