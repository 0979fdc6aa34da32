//go:build linux

package reap

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// KilledBySignal is the exit code of a process that a signal ended.
const KilledBySignal = -1

// Table knows the running children. One goroutine collects all zombies; it runs from the
// first start on, since an adopted orphan needs a started ancestor.
type Table struct {
	mu       sync.Mutex
	byPID    map[int]*Process // the latest holder of each number; protected by mu
	watching bool             // protected by mu
	idle     chan struct{}    // closed while there are no children; protected by mu
	more     chan struct{}    // wakes the collector after a start
}

// New returns an empty table.
func New() *Table {
	t := &Table{byPID: make(map[int]*Process), idle: make(chan struct{}), more: make(chan struct{}, 1)}
	close(t.idle)
	return t
}

// Process is a child that was started through a Table, a leader of its process group.
type Process struct {
	table  *Table
	pid    int
	exited func(code int)
	reaped bool // protected by table.mu
}

// PID is the process's number.
func (p *Process) PID() int { return p.pid }

// Start calls start and takes over the child whose number it returns. exited is called
// once, with 0-255 or [KilledBySignal], from the collector: it must not block. It may be
// called before Start returns.
func (t *Table) Start(start func() (pid int, err error), exited func(code int)) (*Process, error) {
	// The lock is held so that the collector finds the child however soon it ends.
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, err := start()
	if err != nil {
		return nil, err
	}
	p := &Process{table: t, pid: pid, exited: exited}
	t.byPID[pid] = p
	t.wake()
	return p, nil
}

// wake makes the collector look for children. It is called with mu held.
func (t *Table) wake() {
	select {
	case <-t.idle:
		t.idle = make(chan struct{})
	default:
	}
	if !t.watching {
		t.watching = true
		go t.collect()
		return
	}
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// collect waits for children for ever.
func (t *Table) collect() {
	for {
		pid, err := waitable()
		switch {
		case err == nil:
			t.reap(pid)
		case errors.Is(err, unix.ECHILD):
			t.rest()
			<-t.more
		case !errors.Is(err, unix.EINTR):
			time.Sleep(10 * time.Millisecond) // not known to happen; must not spin
		}
	}
}

// rest notes that there are no children, unless one was started meanwhile.
func (t *Table) rest() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.more) > 0 {
		return
	}
	select {
	case <-t.idle:
	default:
		close(t.idle)
	}
}

// reap removes one zombie. Its number stays taken until the lock is held.
func (t *Table) reap(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	if err != nil || got != pid {
		return // somebody else's: a failed start waits for its own child
	}
	p := t.byPID[pid]
	if p == nil || p.reaped {
		return // an orphan
	}
	p.reaped = true
	code := KilledBySignal
	if status.Exited() {
		code = status.ExitStatus()
	}
	p.exited(code)
}

// Signal sends a signal to the process's group. It reaches descendants that stayed in the
// group even when the process itself is gone, and is lost if all are.
func (p *Process) Signal(sig syscall.Signal) {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byPID[p.pid] != p {
		return // the number belongs to a later child
	}
	if err := unix.Kill(-p.pid, sig); errors.Is(err, unix.ESRCH) && !p.reaped {
		_ = unix.Kill(p.pid, sig) // not leader yet; a zombie takes it silently
	}
}

// Release ends the use of the process's number: its group gets no signals any more.
func (p *Process) Release() {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byPID[p.pid] == p && p.reaped {
		delete(t.byPID, p.pid)
	}
}

// WaitIdle waits until there are no children at all, adopted ones included, and reports
// whether that came true in time.
func (t *Table) WaitIdle(limit time.Duration) bool {
	t.mu.Lock()
	idle := t.idle
	t.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
	}
	select {
	case <-idle: // both came at once
		return true
	default:
		return false
	}
}
