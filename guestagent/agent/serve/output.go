//go:build linux

package serve

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Output is read into a small buffer until a command fills it, which most never do.
const (
	smallOutput = 4 << 10
	largeOutput = 64 << 10
)

// outputBuffers recycles both sizes; a fresh large one costs page faults.
var outputBuffers = [...]sync.Pool{
	{New: func() any { return new([smallOutput]byte) }},
	{New: func() any { return new([largeOutput]byte) }},
}

// pump passes one output of the command to the host, until its end. The session's end
// waits for it.
func (e *execSession) pump(f *os.File, t proto.Type) {
	defer e.partEnded()
	small := outputBuffers[0].Get().(*[smallOutput]byte)
	buf := small[:]
	var large *[largeOutput]byte
	for {
		n, eof := readAvailable(f, buf)
		e.say(t, buf[:n])
		if eof {
			break
		}
		if n == len(small) && large == nil {
			large = outputBuffers[1].Get().(*[largeOutput]byte)
			buf = large[:]
		}
	}
	outputBuffers[0].Put(small)
	if large != nil {
		outputBuffers[1].Put(large)
	}
	if t == proto.TypeExecStderr || e.tty == nil {
		_ = f.Close() // only read; a terminal is closed with the session's input
	}
}

// say sends a piece of output, unless nobody listens.
func (e *execSession) say(t proto.Type, p []byte) {
	if len(p) == 0 {
		return
	}
	e.gate.pass(proto.DataMessageSize(t, len(p)))
	e.mu.Lock()
	muted := e.muted
	e.mu.Unlock()
	if muted {
		return
	}
	e.s.activity.execOutput.Add(uint64(len(p)))
	_ = e.s.data(e.id, t, p)
}

// readAvailable waits for data and takes all there is, so that a burst is one message.
// eof also stands for errors: a terminal's end is EIO.
func readAvailable(f *os.File, buf []byte) (n int, eof bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, true
	}
	err = raw.Read(func(fd uintptr) bool {
		for n < len(buf) {
			m, err := unix.Read(int(fd), buf[n:])
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return n > 0
			case err != nil || m == 0:
				eof = true
				return true
			default:
				n += m
			}
		}
		return true
	})
	return n, eof || err != nil
}
