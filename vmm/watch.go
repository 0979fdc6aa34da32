package vmm

import (
	"fmt"
	"time"
)

// A kernel that knows no way to switch the machine off, for want of ACPI, halts every
// processor with interrupts disabled instead. KVM keeps such a halt to itself, so the
// monitor has to look: when the guest resets its devices, as newer kernels do before they
// halt, and when it has done nothing at all for a while. A guest that is alive but idle
// rarely has its processors stopped for that, since its timers run.

const (
	// watchInterval is how long a guest does nothing before its processors are looked at.
	watchInterval = time.Second
	// watchSoon is the first of the doubling intervals after a reason to suspect a halt.
	watchSoon = time.Millisecond
)

// suspectHalt makes watch look sooner. It never blocks.
func (m *Machine) suspectHalt() {
	select {
	case m.suspect <- struct{}{}:
	default:
	}
}

// watch ends the machine once all processors sleep for ever. It returns when the machine
// has ended.
func (m *Machine) watch() {
	wait := m.interval
	timer := time.NewTimer(wait)
	defer timer.Stop()
	spent := time.Duration(-1)
	for {
		select {
		case <-m.done:
			return
		case <-m.suspect:
			wait = min(watchSoon, m.interval)
		case <-timer.C:
			now := m.CPUTime()
			if now == spent || wait < m.interval {
				m.endIfAsleep()
			}
			spent = now
			wait = min(2*wait, m.interval)
		}
		timer.Reset(wait)
	}
}

// endIfAsleep parks the processors of a running machine, since only together they can be
// told to sleep for ever: one alone may be waiting for another's lock.
func (m *Machine) endIfAsleep() {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.mu.Lock()
	parked := m.want.Load() == wantRun && m.park()
	m.mu.Unlock()
	if !parked {
		return
	}
	asleep := make([]bool, len(m.vcpus))
	errs := make([]error, len(m.vcpus))
	if m.eachThread(func(c *vcpu) { asleep[c.id], errs[c.id] = c.hv.Asleep() }) != nil {
		return // it has ended
	}
	for i := range m.vcpus {
		if errs[i] != nil {
			m.end(Result{Kind: Failed, VCPU: i, Err: fmt.Errorf("watch vCPU %d: %w", i, errs[i])})
			return
		}
		if !asleep[i] {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.want.Load() == wantPark {
				m.unpark()
			}
			return
		}
	}
	kind := Halt
	if m.panicked.Load() {
		kind = Panic
	}
	m.end(Result{Kind: kind, VCPU: -1})
}
