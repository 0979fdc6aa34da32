package vmm

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/hv"
)

// vcpu is one virtual processor and the goroutine, locked to a thread of its own, that
// runs it.
type vcpu struct {
	id       int
	hv       hv.VCPU
	affinity []int         // see Config
	tid      atomic.Int64  // OS thread, 0 before Start
	spent    atomic.Int64  // CPU time in ns, valid once ended
	held     atomic.Bool   // it must not run, even if the machine does; written under Machine.mu
	task     func(*vcpu)   // protected by Machine.mu: to run on the thread while parked
	finished chan struct{} // closed when task has run
}

// run executes guest code until the machine ends.
func (m *Machine) run(c *vcpu) {
	// The thread is never unlocked: it ends with the goroutine, and its signal mask
	// and timers with it.
	runtime.LockOSThread()
	defer m.leave(c)
	c.tid.Store(int64(threadID()))
	if err := setAffinity(c.affinity); err != nil {
		m.log.Warn("a virtual processor runs wherever the host puts it", "vcpu", c.id, "err", err)
	}
	for m.gate(c) {
		e, err := c.hv.Run()
		if err != nil {
			m.end(Result{Kind: Failed, VCPU: c.id, Err: fmt.Errorf("run vCPU %d: %w", c.id, err)})
			return
		}
		m.handle(c, e)
	}
}

// handle carries out one exit.
func (m *Machine) handle(c *vcpu, e *hv.Exit) {
	switch e.Reason {
	case hv.ExitNone:
	case hv.ExitMMIO:
		m.bus.access(e)
	case hv.ExitIO:
		if e.Port == portRenewal {
			m.renewal.access(e)
			return
		}
		panicked := m.panicked.Load()
		before := panicked
		kind := port(e, &panicked)
		if panicked != before {
			m.panicked.Store(true)
		}
		if kind != 0 {
			m.end(Result{Kind: kind, VCPU: c.id})
		}
	case hv.ExitShutdown:
		kind := TripleFault
		if m.panicked.Load() {
			kind = Panic
		}
		m.end(Result{Kind: kind, VCPU: c.id})
	case hv.ExitReset:
		m.end(Result{Kind: Reset, VCPU: c.id})
	case hv.ExitHalt:
		// Without an in-kernel interrupt controller nothing would wake it; with one
		// this exit does not exist, see watch.
		m.end(Result{Kind: Halt, VCPU: c.id})
	case hv.ExitInternalError:
		if m.emulator != nil {
			ok, err := m.emulator.Handle(c.hv)
			if err == nil && ok {
				return
			}
			if err != nil {
				m.end(Result{Kind: Failed, VCPU: c.id, Err: fmt.Errorf("vCPU %d: emulate instruction: %w", c.id, err)})
				return
			}
		}
		m.fail(c, "internal error", e.Code)
	case hv.ExitFailEntry:
		m.fail(c, "entry failure", e.Code)
	default:
		m.fail(c, "unexpected exit", e.Code)
	}
}

func (m *Machine) fail(c *vcpu, reason string, code uint64) {
	x := &ExitError{Reason: reason, Code: code}
	if r, err := c.hv.Registers(); err == nil {
		x.RIP = r.RIP
	}
	m.end(Result{Kind: Failed, VCPU: c.id, Err: x})
}

// leave is the last thing that a processor's goroutine does.
func (m *Machine) leave(c *vcpu) {
	c.spent.Store(int64(threadCPUTime(int(c.tid.Load()))))
	c.tid.Store(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	if m.running == 0 {
		close(m.done)
	}
	m.cond.Broadcast()
}

// gate lets a running machine pass at the price of two atomic loads. Otherwise it parks
// the processor until it may run again, and reports false when the machine ended.
func (m *Machine) gate(c *vcpu) bool {
	if m.want.Load() == wantRun && !c.held.Load() {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parked++
	m.cond.Broadcast()
	for m.want.Load() == wantPark || m.want.Load() == wantRun && c.held.Load() {
		if c.task != nil {
			c.task(c)
			c.task = nil
			close(c.finished)
			continue
		}
		m.cond.Wait()
	}
	m.parked--
	return m.want.Load() == wantRun
}

// cpuTime is the processor time that the vCPU's thread has used.
func (c *vcpu) cpuTime() time.Duration {
	if tid := c.tid.Load(); tid != 0 {
		return threadCPUTime(int(tid))
	}
	return time.Duration(c.spent.Load())
}
