package guesttest

import "sync"

// standstill makes the agent stand still. The zero value lets it run.
type standstill struct {
	mu     sync.Mutex
	paused bool          // protected by mu
	over   chan struct{} // closed by the end of the pause; protected by mu
}

// Pause makes the agent handle nothing more and not beat until Resume, but for what it is
// about to do. Repeating either is no error.
func (a *Agent) Pause() error {
	a.still.mu.Lock()
	defer a.still.mu.Unlock()
	if !a.still.paused {
		a.still.paused, a.still.over = true, make(chan struct{})
	}
	return nil
}

// Resume lets a paused agent go on.
func (a *Agent) Resume() error {
	a.still.mu.Lock()
	defer a.still.mu.Unlock()
	if a.still.paused {
		a.still.paused = false
		close(a.still.over)
	}
	return nil
}

// wait returns when nothing is paused. Whoever goes on then may be overtaken by a pause.
func (s *standstill) wait() {
	s.mu.Lock()
	paused, over := s.paused, s.over
	s.mu.Unlock()
	if paused {
		<-over
	}
}
