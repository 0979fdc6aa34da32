//go:build linux

package agent

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/sysmon"
)

// bootAlone keeps everybody else out of the boot, which is one thread's work, from the one
// that calls it: the kernel's own threads run while it waits, and Go's monitor even later.
// Where KVM emulates a guest's kernel, those had more than half of the boot's time. It is
// for speed only, so nothing here fails.
func (a *agent) bootAlone() {
	runtime.LockOSThread()
	_ = schedule(unix.SCHED_FIFO, 1)
	watch := func() {}
	const proc = "/proc" // still of the tiny root
	if unix.Mount("proc", proc, "proc", 0, "") == nil {
		if again, err := sysmon.Yield(proc); err == nil {
			watch = again
		}
		_ = unix.Unmount(proc, 0) // at worst the pivot hides it
	}
	a.alone = func() {
		watch()
		_ = schedule(unix.SCHED_NORMAL, 0)
		runtime.UnlockOSThread()
	}
}

// join ends that: the agent becomes a process like others.
func (a *agent) join() {
	if a.alone != nil {
		a.alone()
		a.alone = nil
	}
}

// schedule sets this thread's policy (sched(7)), not that of threads which it makes.
func schedule(policy, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
	if policy != unix.SCHED_NORMAL {
		attr.Flags = unix.SCHED_FLAG_RESET_ON_FORK
	}
	return unix.SchedSetAttr(0, &attr, 0)
}
