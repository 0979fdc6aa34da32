//go:build linux

package serve

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// input feeds a command's stdin or terminal.
type input struct {
	e    *execSession
	in   *inbox
	pipe bool // the end of the data closes it; a terminal stays open

	mu      sync.Mutex
	fd      int      // of a pipe until it is used, which most never are, or closed; else -1; protected by mu
	f       *os.File // nil before the first data; protected by mu
	started bool     // feed runs or has run; protected by mu
	stopped bool     // the command has ended; protected by mu
}

func newPipeInput(e *execSession, fd int) *input {
	return &input{e: e, in: e.s.newInbox(e.id, e.gate), pipe: true, fd: fd}
}

func newTTYInput(e *execSession, tty *os.File) *input {
	return &input{e: e, in: e.s.newInbox(e.id, e.gate), fd: -1, f: tty}
}

func (s *Server) execStdin(m proto.Message) {
	p, ok := s.payloadData(m)
	if !ok {
		return
	}
	e := s.session(m.ID)
	if e == nil {
		return
	}
	i := e.input
	switch {
	case len(p) > 0:
		i.open()
		if err := i.in.put(p); err != nil {
			i.failed(unix.ETIMEDOUT)
		}
	case i.pipe && !i.closeUnused():
		i.in.end()
	}
}

// open starts feeding with the first data.
func (i *input) open() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.started || i.stopped || i.pipe && i.fd < 0 {
		return
	}
	i.started = true
	if i.pipe {
		i.f, i.fd = pollable(i.fd, "stdin"), -1
	}
	go i.feed(i.f)
}

// closeUnused closes a pipe that was never written to, and reports whether that is so.
func (i *input) closeUnused() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.started {
		return false
	}
	i.closePipe()
	i.in.close() // later data is discarded
	return true
}

// closePipe is called with mu held.
func (i *input) closePipe() {
	if i.fd >= 0 {
		_ = unix.Close(i.fd)
		i.fd = -1
	}
}

// feed writes until the end of the data, the first error or the command's end.
func (i *input) feed(f *os.File) {
	for {
		p, ok := i.in.take()
		if !ok {
			return
		}
		if p == nil {
			_ = f.Close() // the pipe has all
			return
		}
		if _, err := f.Write(p); err != nil {
			i.in.close()
			if !errors.Is(err, os.ErrClosed) {
				i.failed(err)
			}
			return
		}
	}
}

// failed reports that input is lost.
func (i *input) failed(err error) {
	p := proto.ExecStdinError{Message: fmt.Sprintf("io error: %v", err)}
	var errno unix.Errno
	if errors.As(err, &errno) {
		n := int32(errno)
		p.Errno, p.ErrnoName = &n, proto.StdinErrnoName(int(n))
		p.Message = "io error: " + proto.ErrnoText(int(n))
	}
	e := i.e
	e.mu.Lock()
	silent := e.muted || e.parts == 0
	e.mu.Unlock()
	if !silent {
		_ = e.s.send(e.id, proto.TypeExecStdinError, p)
	}
}

// stop ends the input with the command. Whatever is left of the data is for nobody.
func (i *input) stop() {
	i.in.close()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = true
	i.closePipe()
	if i.f != nil {
		_ = i.f.Close()
	}
}
