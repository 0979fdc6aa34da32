//go:build unix

package microsandbox

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/gomsb/gomsb/internal/sshd"
)

// ServeConn serves one connection, which it closes, until the client leaves, the sandbox
// ends, the server is closed or ctx ends.
func (s *SSHServer) ServeConn(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Canceled) })()
	err := s.server.Serve(ctx, conn)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return cancelled(ctx)
	case errors.Is(err, sshd.ErrInactive):
		return &Error{Kind: ErrIO, Cause: err}
	}
	return agentError(err)
}

// ServeConnection serves one client on this process's standard input and output, as for
// the ProxyCommand of OpenSSH.
func (s *SSHServer) ServeConnection(ctx context.Context) error {
	conn, err := newStdioConn(os.Stdin, os.Stdout)
	if err != nil {
		return wrap(ErrIO, err)
	}
	return s.ServeConn(ctx, conn)
}

// stdioConn is a connection over two files, neither of which it closes. It has no
// deadlines.
type stdioConn struct {
	*input
	out *os.File
}

func newStdioConn(in, out *os.File) (*stdioConn, error) {
	i, err := newInput(in)
	if err != nil {
		return nil, err
	}
	return &stdioConn{input: i, out: out}, nil
}

func (c *stdioConn) Write(p []byte) (int, error)    { return c.out.Write(p) }
func (c *stdioConn) LocalAddr() net.Addr            { return stdioAddr{} }
func (c *stdioConn) RemoteAddr() net.Addr           { return stdioAddr{} }
func (*stdioConn) SetDeadline(time.Time) error      { return nil }
func (*stdioConn) SetReadDeadline(time.Time) error  { return nil }
func (*stdioConn) SetWriteDeadline(time.Time) error { return nil }

// Close ends Read.
func (c *stdioConn) Close() error {
	c.end()
	return nil
}

type stdioAddr struct{}

func (stdioAddr) Network() string { return "stdio" }
func (stdioAddr) String() string  { return "stdio" }
