package netstack

import (
	"context"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/secrets"
)

const (
	dnsPort = 53
	dotPort = 853
)

// acceptTCP deals with a connection that the guest opens. The goroutine is nobody else's.
func (g *Gateway) acceptTCP(r *tcp.ForwarderRequest) {
	if !g.begin() {
		r.Complete(false)
		return
	}
	g.workers.lend(func() { g.countTCP(r) })
}

// countTCP serves one connection of the guest's, unless that is one too many.
func (g *Gateway) countTCP(r *tcp.ForwarderRequest) {
	defer g.wg.Done()
	defer g.tcpCount.Add(-1)
	g.account.connections.Add(1)
	if g.tcpCount.Add(1) > g.tcpLimit {
		g.account.tooMany.Add(1)
		g.log.Warn("the guest has too many connections", "limit", g.tcpLimit)
		r.Complete(true)
		return
	}
	g.serveTCP(g.ctx, r)
}

// serveTCP carries one connection to its end.
func (g *Gateway) serveTCP(ctx context.Context, r *tcp.ForwarderRequest) {
	id := r.ID()
	dst := netip.AddrPortFrom(policy.Unwrap(addrOf(id.LocalAddress)), id.LocalPort)
	switch port := dst.Port(); {
	case g.tls.Intercepts(port): // whatever else the port is for
	case port == dnsPort:
		if c := g.accept(r); c != nil {
			g.serveDNS(ctx, c, dst)
			c.close(ctx)
		}
		return
	case port == dotPort:
		g.acceptDoT(ctx, r, dst)
		return
	}
	f := policy.Flow{Protocol: policy.TCP, Addr: dst.Addr(), Port: dst.Port()}
	d := g.policy.Egress(f, policy.Deferred(), g.names)
	switch {
	case d.Verdict == policy.Denied:
		g.denied(f, d, "")
		r.Complete(true)
	case g.tls.Intercepts(dst.Port()):
		g.intercept(ctx, r, f, dst)
	case d.Verdict == policy.Allowed:
		g.dialFirst(ctx, r, dst)
	default:
		g.acceptFirst(ctx, r, f, dst)
	}
}

// dialFirst opens the host's connection before the guest's is accepted, so that the guest
// learns at once where nobody answers.
func (g *Gateway) dialFirst(ctx context.Context, r *tcp.ForwarderRequest, dst netip.AddrPort) {
	host, err := g.dial(ctx, "tcp", dst)
	if err != nil {
		r.Complete(true)
		return
	}
	guest := g.accept(r)
	if guest == nil {
		reset(host)
		return
	}
	g.plain(ctx, guest, host, secrets.Connection{Dst: dst}, nil)
}

// acceptFirst waits for the name that the guest sends before it decides.
func (g *Gateway) acceptFirst(ctx context.Context, r *tcp.ForwarderRequest, f policy.Flow, dst netip.AddrPort) {
	guest := g.accept(r)
	if guest == nil {
		return
	}
	first, name := guest.peekName(ctx, nil, peekWait)
	source := policy.ByIndex()
	if name != "" {
		source = policy.BySNI(name)
	}
	c := secrets.Connection{Dst: dst}
	d := g.policy.Egress(f, source, g.names)
	if d.Opaque && name == "" { // unless it is HTTP, which names its host
		first, name = guest.peekHost(ctx, first, peekWait)
		c.Host, c.Strict = name, true
		d = g.policy.Egress(f, policy.BySNI(name).Inspected(), g.names)
	}
	if !d.Allowed() {
		g.denied(f, d, name)
		guest.close(ctx)
		return
	}
	host, err := g.dial(ctx, "tcp", dst)
	if err != nil {
		guest.abort()
		return
	}
	g.plain(ctx, guest, host, c, first)
}

// plain carries a connection whose bytes are read as they are, if they are read at all.
func (g *Gateway) plain(ctx context.Context, guest *guestConn, host net.Conn, c secrets.Connection, first []byte) {
	p := join(ctx, guest, host)
	if g.tls != nil && !c.Strict {
		var next outcome
		switch first, next = g.tunnels(ctx, p, c.Dst, first); next {
		case over:
			return
		case opaque:
			_ = p.carry(ctx, first, nil)
			return
		}
	}
	if err := p.carry(ctx, first, g.rewriter(c)); err != nil {
		g.refused(c, err)
	}
}

// accept completes the handshake with the guest; nil if the guest gave up.
func (g *Gateway) accept(r *tcp.ForwarderRequest) *guestConn {
	c := &guestConn{link: g.link, workers: &g.workers}
	ep, err := r.CreateEndpoint(&c.queue)
	r.Complete(err != nil)
	if err != nil {
		return nil
	}
	ep.SocketOptions().SetDelayOption(false)
	ep.SocketOptions().SetKeepAlive(true)
	c.ep = ep
	c.watch()
	return c
}
