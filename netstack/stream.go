package netstack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// stream is a connection of the guest's as a net.Conn: the guest is the remote end. Its
// context ends what waits; it has no deadlines.
type stream struct {
	guest  *guestConn
	ctx    context.Context
	cancel context.CancelFunc
	first  []byte // was read ahead
	dst    netip.AddrPort
	fin    bool // Read has met the guest's FIN
}

// newStream makes a stream of a connection of which first was read already. The caller
// closes the stream, and the connection after it.
func newStream(ctx context.Context, guest *guestConn, dst netip.AddrPort, first []byte) *stream {
	s := &stream{guest: guest, first: first, dst: dst}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		if s.first = s.first[n:]; len(s.first) == 0 {
			s.first = nil // as long as the connection lives, its buffer would
		}
		return n, nil
	}
	n, err := s.guest.read(s.ctx, p)
	s.fin = s.fin || err == io.EOF
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	if err := s.guest.write(s.ctx, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite sends FIN after all that was written.
func (s *stream) CloseWrite() error {
	s.guest.closeWrite()
	return nil
}

// Close ends what waits. The connection itself stays.
func (s *stream) Close() error {
	s.cancel()
	return nil
}

// LocalAddr is where the guest connected to.
func (s *stream) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.dst) }

// RemoteAddr is where the guest connected from.
func (s *stream) RemoteAddr() net.Addr {
	a, err := s.guest.ep.GetRemoteAddress()
	if err != nil {
		return &net.TCPAddr{}
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addrOf(a.Addr), a.Port))
}

// SetDeadline and its like fail: contexts bound what is done with a stream.
func (s *stream) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (s *stream) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (s *stream) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
