//go:build unix

package microsandbox

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// input is a file, such as a terminal, whose Read can be ended from outside without
// closing the file and without taking anything that arrives later.
type input struct {
	fd         int
	wake, stop *os.File // ends of a pipe; the end of stop ends Read
}

func newInput(f *os.File) (*input, error) {
	wake, stop, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &input{fd: int(f.Fd()), wake: wake, stop: stop}, nil
}

// Read implements io.Reader. It returns os.ErrClosed once end was called.
func (i *input) Read(p []byte) (int, error) {
	set := []unix.PollFd{{Fd: int32(i.fd), Events: unix.POLLIN}, {Fd: int32(i.wake.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(set, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case set[1].Revents != 0:
			return 0, os.ErrClosed
		}
		n, err := unix.Read(i.fd, p)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// end makes Read return; close frees the pipe when no Read runs any more.
func (i *input) end() { _ = i.stop.Close() }

func (i *input) close() { _ = i.wake.Close() }

// rawTerminal switches a terminal to raw mode and returns what restores it. Anything else
// than a terminal is left alone.
func rawTerminal(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	return func() { _ = term.Restore(fd, old) }, nil
}

// windowSize is the size of the first of the files that is a terminal, in character
// cells.
func windowSize(files ...*os.File) (rows, cols uint16, ok bool) {
	for _, f := range files {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil {
			return uint16(h), uint16(w), true
		}
	}
	return 24, 80, false
}
