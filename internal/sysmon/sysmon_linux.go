package sysmon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Monitor is that of this process. The zero value is ready; its method belongs to one
// goroutine at a time.
type Monitor struct {
	id      int           // its thread; 0: not known yet
	slack   time.Duration // that it has
	threads uint64        // of the process, when all but the monitor had the usual slack
	denied  error         // the process lacks the privilege
}

// Relax lets the monitor sleep up to slack longer each time. The threads that it starts
// would do so too, those of programs that they start, and what Go's scheduler means to be
// 3 µs: each call gives them the usual slack again, if there are other threads than at the
// last one. It needs /proc, and CAP_SYS_NICE, since the threads are others; without that
// privilege it does not try again.
func (m *Monitor) Relax(slack time.Duration) error {
	if m.denied != nil {
		return m.denied
	}
	const tasks = "/proc/self/task"
	var st unix.Stat_t
	if err := unix.Stat(tasks, &st); err != nil {
		return &os.PathError{Op: "stat", Path: tasks, Err: err}
	}
	if m.id == 0 {
		id, err := find(tasks, os.Getpid())
		if err != nil {
			return err
		}
		m.id = id
	}
	if slack != m.slack {
		if err := setSlack(m.id, slack); err != nil {
			if errors.Is(err, os.ErrPermission) {
				m.denied = err
			}
			return err
		}
		m.slack, m.threads = slack, 0
	}
	if n := uint64(st.Nlink); n != m.threads {
		m.threads = n
		return m.tighten(tasks)
	}
	return nil
}

// tighten gives all threads but the monitor the usual slack.
func (m *Monitor) tighten(tasks string) error {
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil || id == m.id {
			continue
		}
		if err := setSlack(id, UsualSlack); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func setSlack(thread int, slack time.Duration) error {
	err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(thread), "timerslack_ns"), strconv.AppendInt(nil, slack.Nanoseconds(), 10), 0)
	if err != nil {
		return fmt.Errorf("timer slack of thread %d: %w", thread, err)
	}
	return nil
}

// Yield lets the monitor of this process run only when no other thread of the machine wants
// to, until again is called. A monitor that sees a system call take longer than 20 µs takes
// the processor from its thread, which then asks for one and wakes the monitor: where most
// system calls are that slow and there is nothing else to run, that costs more than they
// do. proc is where procfs is mounted. It needs CAP_SYS_NICE.
func Yield(proc string) (again func(), err error) {
	id, err := find(filepath.Join(proc, "self/task"), os.Getpid())
	if err == nil {
		// Threads that the monitor starts are as usual.
		err = schedule(id, unix.SCHED_IDLE, unix.SCHED_FLAG_RESET_ON_FORK)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = schedule(id, unix.SCHED_NORMAL, 0) }, nil // as before: cannot fail
}

func schedule(thread int, policy uint32, flags uint64) error {
	return unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Flags: flags}, 0)
}

// find returns the monitor among the threads in the directory tasks of the process own: the
// runtime starts it before all others but the first.
func find(tasks string, own int) (int, error) {
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return 0, err
	}
	monitor := 0
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil && id != own && (monitor == 0 || id < monitor) {
			monitor = id
		}
	}
	if monitor == 0 {
		return 0, errors.New("the Go runtime has no monitor")
	}
	return monitor, nil
}
