package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lock is a sandbox's lifecycle lock: an exclusive flock on a file that is never
// unlinked. Whoever holds the open file description holds the lock, so a controller
// passes it to the runtime and closes its own copy.
type Lock struct{ file *os.File }

// AcquireLock takes the lifecycle lock of a sandbox without waiting. [ErrLocked] reports
// that a runtime (or a controller about to start one) has it.
func AcquireLock(runDir, name string) (*Lock, error) {
	path := LockPath(runDir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("lifecycle lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lifecycle lock: %w", err)
	}
	return lockFile(f)
}

// InheritedLock adopts the lock a controller passed as fd. It fails with [ErrLocked] if
// the descriptor does not hold the lock and cannot get it.
func InheritedLock(fd int) (*Lock, error) {
	return lockFile(os.NewFile(uintptr(fd), "lifecycle lock"))
}

func lockFile(f *os.File) (*Lock, error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return &Lock{file: f}, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			err = fmt.Errorf("%w: %s is locked", ErrLocked, f.Name())
		default:
			err = fmt.Errorf("lifecycle lock: %w", err)
		}
		return nil, errors.Join(err, f.Close())
	}
}

// File is the open lock file, for passing on.
func (l *Lock) File() *os.File { return l.file }

// Release closes this copy. The lock itself is free once every copy is closed.
func (l *Lock) Release() error { return l.file.Close() }
