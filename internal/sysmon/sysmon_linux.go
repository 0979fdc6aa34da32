package sysmon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Relax lets the monitor of this process, and threads that it starts from then on, sleep up
// to slack longer each time. It needs /proc, and CAP_SYS_NICE, since the thread is another
// one.
func Relax(slack time.Duration) error {
	const tasks = "/proc/self/task"
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return err
	}
	// The runtime starts it before all other threads but the first.
	monitor, own := 0, os.Getpid()
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil && id != own && (monitor == 0 || id < monitor) {
			monitor = id
		}
	}
	if monitor == 0 {
		return errors.New("the Go runtime has no monitor")
	}
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(monitor), "timerslack_ns"), []byte(strconv.FormatInt(slack.Nanoseconds(), 10)), 0); err != nil {
		return fmt.Errorf("timer slack of thread %d: %w", monitor, err)
	}
	return nil
}
