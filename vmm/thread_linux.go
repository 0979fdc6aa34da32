package vmm

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func threadID() int { return unix.Gettid() }

// setAffinity keeps the calling thread on these processors of the host; none are all.
func setAffinity(cpus []int) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, id := range cpus {
		set.Set(id)
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}

// threadCPUTime reads the CPU clock of a thread of this process; 0 if it is gone.
func threadCPUTime(tid int) time.Duration {
	// The kernel's encoding of a per-thread CPUCLOCK_SCHED clock (posix-timers.h).
	clock := int32(^tid)<<3 | 6
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
