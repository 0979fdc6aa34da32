package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/internal/filelock"
	"github.com/gomsb/gomsb/snapshot/sparse"
	"golang.org/x/sys/unix"
)

// lock lets one process at a time change the names in dir. The lock is on the directory
// itself, so that there is no file to leave behind.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, d); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return func() { _ = d.Close() }, nil
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
