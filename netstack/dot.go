package netstack

import (
	"cmp"
	"context"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
)

// acceptDoT deals with DNS over TLS (RFC 7858). It is answered as other questions are if
// TLS is intercepted, and refused if not: no policy could apply to the names.
func (g *Gateway) acceptDoT(ctx context.Context, r *tcp.ForwarderRequest, dst netip.AddrPort) {
	if g.tls == nil {
		r.Complete(true)
		return
	}
	guest := g.accept(r)
	if guest == nil {
		return
	}
	s := newStream(ctx, guest, dst, nil)
	defer s.cancel()
	inner, err := g.serveTLS(s)
	if err != nil {
		g.log.Info("the guest did not complete a TLS handshake for DNS", "to", dst, "error", err)
		guest.close(ctx)
		return
	}
	server := cmp.Or(canonical(inner.ConnectionState().ServerName), dst.Addr().String())
	g.answerAll(s, inner, dns.Way{Protocol: policy.TCP, Resolver: g.resolverOf(dst.Addr()), Server: server})
	if s.ctx.Err() == nil {
		_ = inner.finish(true)
	}
	guest.close(ctx)
}
