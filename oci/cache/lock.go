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

// lock is a flock on a file that is never unlinked: a lock on an unlinked file would
// exclude nobody.
type lock struct{ file *os.File }

func openLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return &lock{file: f}, nil
}

// try takes the lock, unix.LOCK_EX or LOCK_SH, or changes it, if nobody is in the way.
// A change that fails may leave it without any lock.
func (l *lock) try(how int) (bool, error) {
	err := unix.Flock(int(l.file.Fd()), how|unix.LOCK_NB)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.EINTR):
		return false, nil
	}
	return false, fmt.Errorf("lock %s: %w", l.file.Name(), err)
}

// wait pauses before the next try.
func (l *lock) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("waiting for another process on %s: %w", l.file.Name(), ctx.Err())
	case <-time.After(lockPoll):
		return nil
	}
}

// release gives the lock back; closing the file does it.
func (l *lock) release() { _ = l.file.Close() }

// acquire takes an exclusive lock.
func acquire(ctx context.Context, path string) (*lock, error) {
	l, err := openLock(path)
	if err != nil {
		return nil, err
	}
	for {
		taken, err := l.try(unix.LOCK_EX)
		if taken {
			return l, nil
		}
		if err == nil {
			err = l.wait(ctx)
		}
		if err != nil {
			l.release()
			return nil, err
		}
	}
}

// acquireAll takes several exclusive locks in one order for everybody.
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

// provide makes sure that something exists and keeps others from removing it. It
// returns with a shared lock on path, held while there said that the thing is there;
// if it is not, provide calls build under the exclusive lock. With anew it calls build
// in any case, and under the shared lock: the thing is the same whoever makes it, and
// replaced as a whole.
//
// Nobody waits for another lock of this kind while holding this one exclusively, and who
// holds it shared found the thing in place. So whoever waits here waits for one builder
// only, and no order of locks among things is needed.
func provide(ctx context.Context, path string, anew bool, there func() bool, build func() error) (*lock, error) {
	l, err := openLock(path)
	if err != nil {
		return nil, err
	}
	attempt := l.provide
	if anew {
		attempt = l.replace
	}
	for {
		err := attempt(there, build)
		if err == nil {
			return l, nil
		}
		if errors.Is(err, errBusy) {
			err = l.wait(ctx)
		}
		if err != nil {
			l.release()
			return nil, err
		}
	}
}

var errBusy = errors.New("lock is held")

// must takes the lock or returns why not, errBusy if somebody is in the way.
func (l *lock) must(how int) error {
	taken, err := l.try(how)
	if err == nil && !taken {
		return errBusy
	}
	return err
}

func (l *lock) provide(there func() bool, build func() error) error {
	if err := l.must(unix.LOCK_SH); err != nil || there() {
		return err
	}
	if err := l.must(unix.LOCK_EX); err != nil {
		return err
	}
	if !there() {
		if err := build(); err != nil {
			return err
		}
	}
	// The change of the lock is not atomic: if the thing is gone after it, the next round
	// makes it again.
	if err := l.must(unix.LOCK_SH); err != nil {
		return err
	}
	if !there() {
		return errBusy
	}
	return nil
}

func (l *lock) replace(_ func() bool, build func() error) error {
	if err := l.must(unix.LOCK_SH); err != nil {
		return err
	}
	return build()
}
