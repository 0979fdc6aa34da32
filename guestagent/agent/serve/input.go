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
	e      *execSession
	f      *os.File
	in     *inbox
	closes bool // the end of the data closes f: a pipe, not a terminal

	once sync.Once // starts feed
}

func newInput(e *execSession, f *os.File, closes bool) *input {
	return &input{e: e, f: f, in: newInbox(&e.s.budget), closes: closes}
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
		i.once.Do(func() { go i.feed() })
		if err := i.in.put(p); err != nil {
			i.failed(unix.ETIMEDOUT)
		}
	case i.closes:
		i.in.end()
		i.once.Do(func() { go i.feed() })
	}
}

// feed writes until the end of the data, the first error or the command's end.
func (i *input) feed() {
	for {
		p, ok := i.in.take()
		if !ok {
			return
		}
		if p == nil {
			_ = i.f.Close()
			return
		}
		if _, err := i.f.Write(p); err != nil {
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

// stop ends the input with the command.
func (i *input) stop() {
	i.in.close()
	_ = i.f.Close() // whatever is left of the data is for nobody
}
