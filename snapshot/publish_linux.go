package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gomsb/gomsb/snapshot/sparse"
	"golang.org/x/sys/unix"
)

// lockPoll is how often a taken lock is tried again.
const lockPoll = 20 * time.Millisecond

// lock lets one process at a time change the names in dir. The lock is on the directory
// itself, so that there is no file to leave behind.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = d.Close() }, nil
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(lockPoll):
				continue
			}
		} else if errors.Is(err, unix.EINTR) {
			continue
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), d.Close())
	}
}

// publish gives the directory from the name to, durably. If replace is set and to exists,
// the two are exchanged in one step.
func publish(from, to string, replace bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if _, err := os.Lstat(to); replace && err == nil {
		flags = unix.RENAME_EXCHANGE
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w: %s", ErrExists, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return sparse.SyncDir(filepath.Dir(to))
}
