package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a taken lock is tried again. flock cannot be interrupted
// portably, so that a blocking call would ignore the context.
const lockPoll = 20 * time.Millisecond

// lock is an exclusive flock on a file that is never unlinked: a lock on an unlinked
// file would exclude nobody.
type lock struct{ file *os.File }

func acquire(ctx context.Context, path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return &lock{file: f}, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for another process on %s: %w", path, ctx.Err()), f.Close())
		case <-time.After(lockPoll):
		}
	}
}

// release gives the lock back; closing the file does it.
func (l *lock) release() { _ = l.file.Close() }

// acquireAll takes several locks in one order for everybody.
func acquireAll(ctx context.Context, paths []string) (release func(), err error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(paths)))
	held := make([]*lock, 0, len(sorted))
	release = func() {
		for _, l := range held {
			l.release()
		}
	}
	for _, path := range sorted {
		l, err := acquire(ctx, path)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, l)
	}
	return release, nil
}
