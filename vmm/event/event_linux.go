package event

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/rawfile"
)

// Event is a counter in the kernel that wakes a waiter when it is not zero. Signal may
// be called from any goroutine, Serve and Block from one at a time.
type Event struct {
	file *os.File
	raw  syscall.RawConn
	fd   int

	closed atomic.Bool
	// Only Block touches these.
	poll  rawfile.PollEvent
	rbuf  [8]byte
	err   error // of the last read
	block func(fd uintptr) bool
}

// New creates an event that is not signalled.
func New() (*Event, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	e := &Event{file: os.NewFile(uintptr(fd), "eventfd"), fd: fd}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		_ = e.file.Close()
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	e.poll = rawfile.PollEvent{FD: int32(fd), Events: unix.POLLIN}
	e.block = func(fd uintptr) bool {
		for e.err = unix.EAGAIN; e.err == unix.EAGAIN && !e.closed.Load(); {
			if _, errno := rawfile.BlockingPoll(&e.poll, 1, nil); errno != 0 {
				e.err = errno
			} else {
				_, e.err = unix.Read(int(fd), e.rbuf[:])
			}
		}
		return true
	}
	return e, nil
}

// FD is the descriptor, valid until Close.
func (e *Event) FD() int { return e.fd }

// one is what Signal adds, in the machine's byte order; every supported one is
// little-endian.
var one = [8]byte{1}

// Signal wakes the waiter, now or when it waits next. After Close it returns an error that
// is os.ErrClosed. It does not allocate.
func (e *Event) Signal() error {
	// Through the file, whose lock keeps the descriptor from being closed, and its
	// number from being reused, under the write.
	_, err := e.file.Write(one[:])
	return err
}

// Serve calls handle, and again each time that the event was signalled since handle began,
// until that returns true. It takes no system call of its own: the Go poller watches for
// edges (epoll(7), EPOLLET), and each signal is one whatever the count, which is left as it
// is. Close, which waits until handle has returned and keeps it from running again, ends it
// with an error that is os.ErrClosed. A wake-up does not allocate.
func (e *Event) Serve(handle func() (over bool)) error {
	return e.until(func(uintptr) bool { return e.closed.Load() || handle() }) // Close signals too
}

// until calls over at once and after each signal until it returns true.
func (e *Event) until(over func(fd uintptr) bool) error {
	if err := e.raw.Read(over); err != nil || e.closed.Load() {
		return os.ErrClosed // the only reason without a deadline
	}
	return nil
}

// Block waits until the event was signalled and resets it, for a waiter whom somebody waits
// for. It takes a thread, which the kernel wakes at once: through the Go poller, it wakes one
// that looks for the waiter and wakes another one to look for further work. The processor of
// Go's is for others to have at once: Go's monitor takes it from a usual system call only when
// it looks next. After Close it returns an error that is os.ErrClosed. It does not allocate.
func (e *Event) Block() error {
	for {
		if err := e.until(e.block); err != nil {
			return err
		}
		if e.err != unix.EINTR {
			return e.err
		}
	}
}

// Close releases the descriptor and ends a Wait or Block. It is idempotent.
func (e *Event) Close() error {
	if !e.closed.Swap(true) {
		_ = e.Signal() // ends a poll(2), which holds the descriptor; Close waits for it
	}
	if err := e.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
