package netstack

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/secrets"
)

const (
	// handshakeWait is how long the guest may take for a TLS handshake, upstreamWait how
	// long a server may.
	handshakeWait = 10 * time.Second
	upstreamWait  = 30 * time.Second
)

// target is the server that an intercepted connection is for.
type target struct {
	secrets.Connection
	flow policy.Flow // what the policy is asked about
	// dial opens the connection to the server. It is called once at most.
	dial func(context.Context) (net.Conn, error)
	// undo gives up what dial would return.
	undo func()
}

// intercept deals with a connection to a port whose TLS is intercepted.
func (g *Gateway) intercept(ctx context.Context, r *tcp.ForwarderRequest, f policy.Flow, dst netip.AddrPort) {
	guest := g.accept(r)
	if guest == nil {
		return
	}
	g.interceptTLS(ctx, guest, nil, target{
		Connection: secrets.Connection{Dst: dst, Intercepted: true}, flow: f,
		dial: func(ctx context.Context) (net.Conn, error) { return g.dial(ctx, "tcp", dst) },
		undo: func() {},
	}, "")
}

// interceptTLS stands between the guest and the server that its ClientHello names, which
// must be want unless that is empty. first was read already. Both connections are over
// when it returns.
func (g *Gateway) interceptTLS(ctx context.Context, guest *guestConn, first []byte, t target, want string) {
	first, name := guest.peekName(ctx, first, helloWait)
	if t.Host = canonical(name); t.Host == "" || want != "" && t.Host != want {
		g.log.Info("a connection without the name of its server cannot be intercepted", "to", t.Dst, "name", name, "wanted", want)
		t.undo()
		guest.close(ctx)
		return
	}
	bypass := g.tls.Bypasses(t.Host)
	if d := g.judge(&t, bypass); !d.Allowed() {
		g.denied(t.flow, d, t.Host)
		t.undo()
		guest.close(ctx)
		return
	}
	if bypass {
		g.leaveAlone(ctx, guest, first, t)
	} else {
		g.standBetween(ctx, guest, first, t)
	}
}

// judge asks the policy about the server. What is intercepted can be held to the server's
// name, if it is only allowed then.
func (g *Gateway) judge(t *target, bypass bool) policy.Decision {
	source := policy.BySNI(t.Host)
	d := g.policy.Egress(t.flow, source, g.names)
	if d.Opaque && !bypass {
		t.Strict = true
		d = g.policy.Egress(t.flow, source.Inspected(), g.names)
	}
	return d
}

// leaveAlone carries a connection to its server as it is.
func (g *Gateway) leaveAlone(ctx context.Context, guest *guestConn, first []byte, t target) {
	host, err := t.dial(ctx)
	if err != nil {
		guest.abort()
		return
	}
	_ = splice(ctx, guest, host, first, nil)
}

// standBetween is the server for the guest, and the guest for the server.
func (g *Gateway) standBetween(ctx context.Context, guest *guestConn, first []byte, t target) {
	s := newStream(ctx, guest, t.Dst, first)
	defer s.cancel()
	inner, err := g.serveTLS(s)
	if err != nil {
		g.log.Info("the guest did not complete a TLS handshake: if it accepts certain certificates only, do not intercept it", "to", t.Dst, "name", t.Host, "error", err)
		t.undo()
		guest.close(ctx)
		return
	}
	outer, err := g.dialTLS(ctx, t)
	if err != nil {
		g.log.Warn("a server could not be reached by TLS", "to", t.Dst, "name", t.Host, "error", err)
		guest.abort()
		return
	}
	g.relay(ctx, inner, outer, t.Connection, g.rewriter(t.Connection))
}

// canonical is policy.Canonical of a name, "" if it is none.
func canonical(name string) string {
	c, err := policy.Canonical(name)
	if err != nil {
		return ""
	}
	return c
}

// sealed is a TLS connection and what carries it.
type sealed struct {
	*tls.Conn
	wire carrier
}

// carrier is what a TLS connection runs on.
type carrier interface {
	net.Conn
	CloseWrite() error
	// ended reports that Read has met the end of the stream.
	ended() bool
}

func (s *stream) ended() bool { return s.fin }

// hostWire is a connection of the host's that carries TLS.
type hostWire struct {
	net.Conn
	fin bool
}

func (w *hostWire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.fin = w.fin || err == io.EOF
	return n, err
}

func (w *hostWire) ended() bool { return w.fin }

// SetWriteDeadline fails, as that of stream: crypto/tls gives close_notify five seconds,
// which a server that takes an upload slowly exceeds, and would lift the deadline that ends
// what waits.
func (w *hostWire) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

func (w *hostWire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// serveTLS is the server that the guest wants.
func (g *Gateway) serveTLS(s *stream) (sealed, error) {
	c := tls.Server(s, g.tls.Guest())
	ctx, cancel := context.WithTimeout(s.ctx, handshakeWait)
	defer cancel()
	return sealed{c, s}, c.HandshakeContext(ctx)
}

// dialTLS connects to the server.
func (g *Gateway) dialTLS(ctx context.Context, t target) (sealed, error) {
	host, err := t.dial(ctx)
	if err != nil {
		return sealed{}, err
	}
	w := &hostWire{Conn: host}
	c := tls.Client(w, g.tls.Upstream(t.Host))
	ctx, cancel := context.WithTimeout(ctx, upstreamWait)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		_ = host.Close()
		return sealed{}, err
	}
	return sealed{c, w}, nil
}

// finish sends the end of what was written. Where the other end's peer did not say by
// close_notify that nothing is missing, neither do we (RFC 8446 §6.1).
func (c sealed) finish(complete bool) error {
	var err error
	if complete {
		err = c.CloseWrite()
	}
	return errors.Join(err, c.wire.CloseWrite())
}

// copyTo carries what comes to w, until the end of it.
func (c sealed) copyTo(w io.Writer) error {
	b := make([]byte, recordSize)
	for {
		n, err := c.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
