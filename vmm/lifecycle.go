package vmm

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrState is wrapped by errors of calls that do not fit the machine's phase, such
	// as Pause before Start.
	ErrState = errors.New("machine is in the wrong state")
	// ErrEnded reports that the machine has ended; Wait tells how.
	ErrEnded = fmt.Errorf("%w: it has ended", ErrState)
)

// What the virtual processors are to do.
const (
	wantRun uint32 = iota
	wantPark
	wantEnd
)

// Start runs the machine's processors. It may be called once.
func (m *Machine) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed || m.want.Load() == wantEnd:
		return fmt.Errorf("start: %w", ErrEnded)
	case m.started:
		return fmt.Errorf("start: %w: it was started before", ErrState)
	}
	m.started = true
	m.running = len(m.vcpus)
	for _, c := range m.vcpus {
		go m.run(c)
	}
	m.watcher.Go(m.watch)
	return nil
}

// Pause returns when no processor executes guest code and no device touches guest
// memory. A paused machine stays paused; pausing it again is no error.
func (m *Machine) Pause() error {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.mu.Lock()
	if !m.started {
		m.mu.Unlock()
		return fmt.Errorf("pause: %w: it is not started", ErrState)
	}
	if m.want.Load() == wantEnd {
		m.mu.Unlock()
		return fmt.Errorf("pause: %w", ErrEnded)
	}
	already := m.want.Load() == wantPark
	parked := m.park()
	m.mu.Unlock()
	if !parked {
		return fmt.Errorf("pause: %w", ErrEnded)
	}
	if !already {
		m.bus.pause()
	}
	return nil
}

// park returns when every processor is parked, or false when the machine has ended. The
// caller holds turn and mu.
func (m *Machine) park() bool {
	m.want.Store(wantPark)
	m.kick()
	for m.parked < m.running && m.want.Load() == wantPark {
		m.cond.Wait()
	}
	return m.want.Load() == wantPark
}

// unpark lets parked processors run again. The caller holds turn and mu.
func (m *Machine) unpark() {
	m.want.Store(wantRun)
	m.cond.Broadcast()
}

// Resume lets a paused machine run again; on a running one it does nothing.
func (m *Machine) Resume() error {
	m.turn.Lock()
	defer m.turn.Unlock()
	if m.want.Load() == wantPark {
		if err := m.tellPaused(); err != nil {
			return fmt.Errorf("resume: %w", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.want.Load() {
	case wantEnd:
		return fmt.Errorf("resume: %w", ErrEnded)
	case wantPark:
		m.bus.resume()
		m.unpark()
	}
	return nil
}

// tellPaused lets the guest know that it stood still. The caller holds turn and has parked
// the processors.
func (m *Machine) tellPaused() error {
	errs := make([]error, len(m.vcpus))
	if err := m.eachThread(func(c *vcpu) { errs[c.id] = c.hv.TellPaused() }); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// Stop ends the machine at once, without asking the guest. Wait returns Stopped unless
// the guest had ended before.
func (m *Machine) Stop() { m.end(Result{Kind: Stopped, VCPU: -1}) }

// Wait returns how the machine ended, once no processor runs any more, or the error of
// ctx.
func (m *Machine) Wait(ctx context.Context) (Result, error) {
	select {
	case <-m.done:
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.result, nil
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
}

// Done is closed when the machine has ended and no processor runs any more.
func (m *Machine) Done() <-chan struct{} { return m.done }

// end records the first result and sends every processor home.
func (m *Machine) end(r Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.want.Load() == wantEnd {
		return
	}
	m.result = r
	m.want.Store(wantEnd)
	m.kick()
	m.cond.Broadcast()
	if !m.started {
		close(m.done)
	}
}

// kick makes every processor look at want soon.
func (m *Machine) kick() {
	for _, c := range m.vcpus {
		c.hv.Kick()
	}
}

// onThreads runs f once for each processor, on its own thread, while the machine is
// paused.
func (m *Machine) onThreads(f func(*vcpu)) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.mu.Lock()
	if m.want.Load() != wantPark || m.parked < m.running {
		m.mu.Unlock()
		return fmt.Errorf("%w: it is not paused", ErrState)
	}
	m.mu.Unlock()
	return m.eachThread(f)
}

// eachThread is onThreads for a caller that holds turn and has parked the processors.
func (m *Machine) eachThread(f func(*vcpu)) error {
	m.mu.Lock()
	for _, c := range m.vcpus {
		c.task, c.finished = f, make(chan struct{})
	}
	m.cond.Broadcast()
	m.mu.Unlock()
	for _, c := range m.vcpus {
		select {
		case <-c.finished:
		case <-m.done:
			return ErrEnded
		}
	}
	return nil
}

// Close stops the machine and frees everything it holds: processors, devices with
// their backends, memory and descriptors. It is idempotent.
func (m *Machine) Close() error {
	m.Stop()
	<-m.done
	m.watcher.Wait()
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	return m.free()
}
