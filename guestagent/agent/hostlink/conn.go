//go:build linux

package hostlink

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Ports of the host.
const (
	AgentPort     = 1024 // frames of the agent protocol
	HeartbeatPort = 1025 // one JSON object a second
)

// Conn is a stream to the host. Until Async its calls block a thread each, which costs
// nothing while the agent boots and spares the poller; from then on they wait in the
// runtime's poller.
type Conn struct {
	fd   int
	file *os.File // set by Async
}

// Dial connects to a port of the host. Its patience is that of the host, which gives up on
// a guest that does not get ready.
func Dial(port uint32) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	timeout := unix.Timeval{Sec: 3600}
	err = unix.SetsockoptTimeval(fd, unix.AF_VSOCK, soConnectTimeout, &timeout)
	if err == nil {
		err = connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: port})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vsock: connect to port %d of the host: %w", port, err), unix.Close(fd))
	}
	return &Conn{fd: fd}, nil
}

// soConnectTimeout is SO_VM_SOCKETS_CONNECT_TIMEOUT, which is 2 seconds otherwise.
const soConnectTimeout = 6

// connect waits for the connection where no signal breaks it off: the kernel gives up on a
// connect that blocks, and the runtime of this program is full of signals.
func connect(fd int, to unix.Sockaddr) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	if err := unix.Connect(fd, to); err != nil {
		if !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		for {
			if _, err := unix.Poll(wait, -1); err == nil {
				break
			} else if !errors.Is(err, unix.EINTR) {
				return err
			}
		}
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return err
		}
		if errno != 0 {
			return unix.Errno(errno)
		}
	}
	return unix.SetNonblock(fd, false)
}

// Adopt makes a Conn of a connected stream socket, which it owns from then on.
func Adopt(fd int) *Conn { return &Conn{fd: fd} }

// Async makes later calls wait in the poller. No other call may be under way.
func (c *Conn) Async() error {
	if err := unix.SetNonblock(c.fd, true); err != nil {
		return err
	}
	c.file = os.NewFile(uintptr(c.fd), "host")
	return nil
}

// FD returns the descriptor, to pass it to another process.
func (c *Conn) FD() int { return c.fd }

// SetReadTimeout bounds each read until Async; 0 is for ever. A read that takes longer
// fails with os.ErrDeadlineExceeded.
func (c *Conn) SetReadTimeout(d time.Duration) error {
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
}

// Read implements io.Reader.
func (c *Conn) Read(p []byte) (int, error) {
	if c.file != nil {
		return c.file.Read(p)
	}
	for {
		n, err := unix.Read(c.fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, fmt.Errorf("read from the host: %w", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write implements io.Writer.
func (c *Conn) Write(p []byte) (int, error) {
	if c.file != nil {
		return c.file.Write(p)
	}
	done := 0
	for done < len(p) {
		n, err := unix.Write(c.fd, p[done:])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return done, fmt.Errorf("write to the host: %w", err)
		}
		done += max(n, 0)
	}
	return done, nil
}

// CloseWrite tells the host that nothing follows. It does not wait for writes under way.
func (c *Conn) CloseWrite() error {
	if c.file == nil {
		return unix.Shutdown(c.fd, unix.SHUT_WR)
	}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Shutdown(int(fd), unix.SHUT_WR) })
	return cmp.Or(err, failed)
}

// Close closes the stream; a second Close is an error.
func (c *Conn) Close() error {
	if c.file != nil {
		return c.file.Close()
	}
	fd := c.fd
	c.fd = -1 // the number may be another file's soon
	return unix.Close(fd)
}
