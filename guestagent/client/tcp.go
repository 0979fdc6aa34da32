package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// tcpChunk is how much data goes into one TCP message.
const tcpChunk = 64 << 10

// DialTCP connects to host:port from inside the guest, which also resolves the name, and
// returns a net.Conn that also has CloseWrite. A failed connect is a *TCPError. Reading
// and writing may go on concurrently.
func (c *Client) DialTCP(ctx context.Context, host string, port uint16) (*TCPConn, error) {
	s, err := c.open(ctx, proto.TypeTCPConnect, proto.TCPConnect{Host: host, Port: port})
	if err != nil {
		return nil, err
	}
	t := &TCPConn{s: s, remote: tcpAddr(net.JoinHostPort(host, strconv.Itoa(int(port))))}
	t.read.init()
	t.written.init()
	if err := t.connected(ctx); err != nil {
		_ = t.Close() // the connect error is the one to report
		return nil, err
	}
	return t, nil
}

// TCPConn is a TCP connection made by the guest.
type TCPConn struct {
	s       *session
	remote  tcpAddr
	read    deadline
	written deadline

	mu    sync.Mutex // held by Read
	rest  []byte
	state error // why reading has ended

	closed sync.Once
	half   sync.Once
}

type tcpAddr string

func (tcpAddr) Network() string  { return "tcp" }
func (a tcpAddr) String() string { return string(a) }

func (t *TCPConn) connected(ctx context.Context) error {
	ev, err := t.s.recv(ctx)
	if err != nil {
		return endError(err)
	}
	if ev.typ == proto.TypeTCPFailed {
		return tcpFailure(ev)
	}
	var p proto.Empty
	return ev.decode(proto.TypeTCPConnected, &p)
}

func tcpFailure(ev event) error {
	var p proto.TCPFailed
	if err := ev.decode(proto.TypeTCPFailed, &p); err != nil {
		return err
	}
	errno, _ := proto.ParseErrno(p.Error)
	return &TCPError{Errno: errno, Message: p.Error}
}

// Read implements net.Conn. It returns io.EOF when the far end has ended its direction.
func (t *TCPConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ctx := t.read.context()
	for len(t.rest) == 0 {
		if t.state != nil {
			return 0, t.state
		}
		ev, err := t.s.recv(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return 0, os.ErrDeadlineExceeded
			}
			t.state = err
			if errors.Is(err, ErrClosed) {
				t.state = net.ErrClosed
			}
			continue
		}
		t.take(ev)
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// take handles one event of the session; the caller holds mu.
func (t *TCPConn) take(ev event) {
	switch ev.typ {
	case proto.TypeTCPData:
		t.rest = ev.body
	case proto.TypeTCPEOF, proto.TypeTCPClosed:
		t.state = io.EOF
	case proto.TypeTCPFailed:
		t.state = tcpFailure(ev)
	case proto.TypeTCPConnected:
		// A second one says nothing new.
	default:
		t.state = ev.decode(proto.TypeTCPClosed, nil)
	}
}

// Write implements net.Conn. It blocks while the guest does not take the data.
func (t *TCPConn) Write(p []byte) (n int, err error) {
	ctx := t.written.context()
	for n < len(p) {
		chunk := p[n:min(len(p), n+tcpChunk)]
		if err := t.s.sendInput(ctx, proto.TypeTCPData, chunk); err != nil {
			if ctx.Err() != nil && t.s.writable() == nil {
				return n, os.ErrDeadlineExceeded
			}
			return n, fmt.Errorf("write to the guest: %w", err)
		}
		n += len(chunk)
	}
	return n, nil
}

// CloseWrite ends our direction; reading goes on.
func (t *TCPConn) CloseWrite() error {
	var err error
	t.half.Do(func() {
		if t.s.writable() == nil {
			err = t.s.c.goodbye(func(ctx context.Context) error {
				return t.s.c.send(ctx, t.s.id, proto.TypeTCPEOF, proto.Empty{})
			})
		}
		t.s.breakWrites(io.ErrClosedPipe)
	})
	return err
}

// Close closes the connection in the guest. It is idempotent and does not wait.
func (t *TCPConn) Close() error {
	var err error
	t.closed.Do(func() {
		ended := t.s.isOver()
		t.s.breakWrites(net.ErrClosed)
		t.s.abandon()
		if !ended {
			err = t.s.c.goodbye(t.s.tellEnd)
			t.s.c.forget(t.s.id) // the guest does not answer a close
		}
		t.read.set(time.Time{})
		t.written.set(time.Time{})
	})
	return err
}

// LocalAddr implements net.Conn; the guest does not tell the address it connects from.
func (t *TCPConn) LocalAddr() net.Addr { return tcpAddr("guest") }

// RemoteAddr is the host and port as given to DialTCP.
func (t *TCPConn) RemoteAddr() net.Addr { return t.remote }

// SetDeadline implements net.Conn.
func (t *TCPConn) SetDeadline(at time.Time) error {
	t.read.set(at)
	t.written.set(at)
	return nil
}

// SetReadDeadline implements net.Conn.
func (t *TCPConn) SetReadDeadline(at time.Time) error {
	t.read.set(at)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (t *TCPConn) SetWriteDeadline(at time.Time) error {
	t.written.set(at)
	return nil
}
