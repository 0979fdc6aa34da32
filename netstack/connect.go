package netstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/secrets"
)

const (
	// maxConnectHead bounds a request for a tunnel, maxConnectReply the head of its answer.
	maxConnectHead  = 16 << 10
	maxConnectReply = 8 << 10
)

// outcome is what is to become of a plain connection.
type outcome uint8

const (
	plainly outcome = iota // it is carried, and read as it is
	opaque                 // it is a tunnel for something that is not intercepted
	over                   // it is over
)

// tunnels deals with requests for a tunnel (CONNECT, RFC 9110 §9.3.6) at the start of a
// connection to what may be a proxy: within, TLS is intercepted as it is outside. first was
// read already. The bytes that it returns are to be sent on.
func (g *Gateway) tunnels(ctx context.Context, p *pair, dst netip.AddrPort, first []byte) ([]byte, outcome) {
	for {
		var asked bool
		if first, asked = p.peekConnect(first); !asked || !p.halt() {
			return first, plainly
		}
		t, rest, err := g.requestTunnel(p, dst, first)
		if err != nil {
			g.log.Info("a request for a tunnel was refused", "proxy", dst, "error", err)
			p.close(ctx)
			return nil, over
		}
		if !g.tls.Intercepts(t.port) {
			p.start()
			return rest, opaque
		}
		open, err := p.tunnelReply()
		if err != nil {
			g.log.Info("a proxy's answer to a request for a tunnel was not believed", "proxy", dst, "to", t.host, "error", err)
			p.close(ctx)
			return nil, over
		}
		if open {
			p.release()
			g.interceptTunnel(ctx, p, dst, t, rest)
			return nil, over
		}
		p.start() // what else there is of the proxy's refusal; the guest may ask again
		first = rest
	}
}

// requestTunnel reads the request that begins with first, and sends it on if the policy
// does not deny what it is for already. No secret is for the proxy.
func (g *Gateway) requestTunnel(p *pair, dst netip.AddrPort, first []byte) (t tunnel, rest []byte, err error) {
	head, rest, err := p.connectHead(first)
	if err != nil {
		return t, nil, err
	}
	if t, err = parseConnect(head); err != nil {
		return t, nil, err
	}
	if g.tls.Intercepts(t.port) && !g.mayLead(g.endOf(p, dst, t)) {
		return t, nil, errDeniedTunnel
	}
	c := secrets.Connection{Host: t.host, Dst: dst, Connect: true}
	rw := g.rewriter(c)
	if rw == nil {
		_, err = p.host.Write(head)
		return t, rest, err
	}
	sub := &substituted{w: p.host, rw: rw}
	defer sub.close()
	if _, err = sub.Write(head); err == nil {
		err = sub.end()
	}
	g.refused(c, err)
	return t, rest, err
}

// interceptTunnel intercepts the TLS in a tunnel that is open.
func (g *Gateway) interceptTunnel(ctx context.Context, p *pair, dst netip.AddrPort, t tunnel, first []byte) {
	to, want := g.endOf(p, dst, t)
	g.interceptTLS(ctx, p.guest, first, to, want)
}

// endOf is the server that a tunnel through the proxy at dst leads to, and the name that it
// must have, "" for any.
func (g *Gateway) endOf(p *pair, dst netip.AddrPort, t tunnel) (to target, want string) {
	to = target{
		Connection: secrets.Connection{Dst: dst, Intercepted: true, Tunnel: true},
		flow:       policy.Flow{Protocol: policy.TCP, Addr: dst.Addr(), Port: t.port},
		dial:       func(context.Context) (net.Conn, error) { return p.host, nil },
		undo:       func() { _ = p.host.Close() },
	}
	switch {
	case t.addr.IsValid():
		to.flow.Addr, to.Dst, to.Tunnel = t.addr, netip.AddrPortFrom(t.addr, t.port), false
		return to, ""
	case t.host == dns.HostAlias:
		to.flow.Addr = g.addrs.gatewayOf(dst.Addr())
	}
	return to, t.host
}

// mayLead asks the policy about the server that a tunnel is for, before the proxy connects
// to it: about the address alone if its name is not known yet.
func (g *Gateway) mayLead(to target, want string) bool {
	var d policy.Decision
	if to.Host = want; want == "" {
		d = g.policy.Egress(to.flow, policy.Deferred(), g.names)
	} else {
		d = g.judge(&to, g.tls.Bypasses(want))
	}
	if d.Verdict == policy.Denied {
		g.denied(to.flow, d, want)
		return false
	}
	return true
}

const connectMethod = "CONNECT "

// peekConnect reads what the guest sends first, as far as it takes to know whether it is a
// request for a tunnel. It may say nothing for as long as it likes.
func (p *pair) peekConnect(first []byte) ([]byte, bool) {
	var late <-chan time.Time
	for {
		n := min(len(first), len(connectMethod))
		if !strings.EqualFold(string(first[:n]), connectMethod[:n]) {
			return first, false
		}
		if n == len(connectMethod) {
			return first, true
		}
		more, err := p.tryRead()
		if err != nil {
			return first, false // the guest's end is met again
		}
		if len(more) > 0 {
			first = append(first, more...)
			continue
		}
		if len(first) > 0 && late == nil {
			t := time.NewTimer(peekWait)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-p.guest.readable:
		case <-late:
			return first, false
		case <-p.ctx.Done():
			return first, false
		}
	}
}

// tryRead is what the guest has sent, nothing if that is nothing yet.
func (p *pair) tryRead() ([]byte, error) {
	b := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(b)
	n, _, err := p.guest.tryRead(b[:])
	return bytes.Clone(b[:n]), err
}

var (
	errNoHead       = errors.New("it does not end where it has to")
	errDeniedTunnel = errors.New("the policy denies what it is for")
	headEnd         = []byte("\r\n\r\n")
	errBadReply     = errors.New("it is no answer of HTTP/1")
)

// connectHead reads the head of a request that begins with first, and returns what comes
// after it too.
func (p *pair) connectHead(first []byte) (head, rest []byte, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, peekWait)
	defer cancel()
	for {
		if i := bytes.Index(first, headEnd); i >= 0 && i+len(headEnd) <= maxConnectHead {
			i += len(headEnd)
			return first[:i:i], first[i:], nil
		} else if i >= 0 || len(first) >= maxConnectHead {
			return nil, nil, errNoHead
		}
		more, err := p.tryRead()
		if err != nil {
			return nil, nil, err
		}
		if len(more) > 0 {
			first = append(first, more...)
			continue
		}
		if err := p.guest.wait(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// tunnel is what a request asks a proxy for.
type tunnel struct {
	host string     // canonical, or the text of addr
	addr netip.Addr // invalid if host is a name
	port uint16
}

// parseConnect reads the head of a request for a tunnel. It must be of one meaning only.
func parseConnect(head []byte) (t tunnel, err error) {
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	for _, l := range lines {
		if strings.ContainsAny(l, "\r\n\x00") {
			return t, errors.New("a line of it has a control character")
		}
	}
	fields := strings.Split(lines[0], " ")
	if len(fields) != 3 || !strings.EqualFold(fields[0]+" ", connectMethod) || !httpVersion(fields[2]) {
		return t, fmt.Errorf("%q is no request line of HTTP/1", lines[0])
	}
	host, port, err := net.SplitHostPort(fields[1])
	if err != nil {
		return t, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return t, fmt.Errorf("%q is no port", port)
	}
	t.port = uint16(n)
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		t.addr = policy.Unwrap(a)
		t.host = t.addr.String()
		return t, nil
	}
	t.host, err = policy.Canonical(host)
	return t, err
}

func httpVersion(s string) bool {
	v, ok := strings.CutPrefix(s, "HTTP/")
	return ok && len(v) == 3 && digit(v[0]) && v[1] == '.' && digit(v[2])
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// tunnelReply carries the head of the proxy's answer to the guest, and reports whether the
// tunnel is open.
func (p *pair) tunnelReply() (open bool, err error) {
	b, end, err := p.readReply()
	if err != nil {
		return false, err
	}
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	status := strings.SplitN(string(line), " ", 3)
	switch {
	case len(status) < 2 || !httpVersion(status[0]) || len(status[1]) != 3 || !digit(status[1][0]) || !digit(status[1][1]) || !digit(status[1][2]):
		return false, fmt.Errorf("%w: %q", errBadReply, line)
	case status[1][0] == '1':
		return false, fmt.Errorf("%w that decides: %q", errBadReply, line)
	case status[1][0] == '2' && end != len(b):
		return false, errors.New("the proxy speaks before the guest does")
	}
	return status[1][0] == '2', p.guest.write(p.ctx, b)
}

// readReply reads the proxy's answer. Its head ends at end.
func (p *pair) readReply() (b []byte, end int, err error) {
	p.readBefore(time.Now().Add(upstreamWait))
	defer p.readBefore(time.Time{})
	b = make([]byte, maxConnectReply)
	for n := 0; n < len(b); {
		k, err := p.host.Read(b[n:])
		n += k
		if i := bytes.Index(b[:n], headEnd); i >= 0 {
			return b[:n], i + len(headEnd), nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, errNoHead
}
