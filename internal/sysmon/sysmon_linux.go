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

// Relax lets the monitor of this process, and threads that it starts from then on, sleep up
// to slack longer each time. It needs /proc, and CAP_SYS_NICE, since the thread is another
// one.
func Relax(slack time.Duration) error {
	monitor, err := find("/proc/self/task", os.Getpid())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(monitor), "timerslack_ns"), []byte(strconv.FormatInt(slack.Nanoseconds(), 10)), 0); err != nil {
		return fmt.Errorf("timer slack of thread %d: %w", monitor, err)
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
