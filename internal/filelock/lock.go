package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A taken lock is tried again after firstWait, then after twice as long each time, up to
// lastWait. flock cannot be interrupted portably, so that a blocking call would ignore the
// context.
const (
	firstWait = time.Millisecond
	lastWait  = 20 * time.Millisecond
)

// Try locks f against everybody else, and reports whether that was possible. The lock
// lasts until f, and every copy of it that a child process inherited, are closed.
func Try(f *os.File) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// Wait is Try until it succeeds, or ctx ends; its error wraps that of ctx then.
func Wait(ctx context.Context, f *os.File) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		if locked, err := Try(f); locked || err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("waiting for another process that has %s locked: %w", f.Name(), ctx.Err())
		}
	}
}
