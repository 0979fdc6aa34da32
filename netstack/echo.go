package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	echoHeader               = 8

	// maxEchoes bounds the pings under way, echoWait how long each may take.
	maxEchoes = 64
	echoWait  = 5 * time.Second

	replyTTL = 64
)

// echo answers an ICMP echo request of the guest's if the policy lets it out: the
// gateway's own by itself, others once the host has an answer. No other message is
// answered or passed on.
func (g *Gateway) echo(dst netip.Addr, m []byte) {
	request, proto := byte(echoRequest4), policy.ICMPv4
	if dst.Is6() {
		request, proto = echoRequest6, policy.ICMPv6
	}
	if len(m) < echoHeader || m[0] != request || m[1] != 0 {
		return
	}
	to := policy.Unwrap(dst)
	if !g.admit(policy.Flow{Protocol: proto, Addr: to}) {
		return
	}
	g.account.pings.Add(1)
	body := append([]byte(nil), m[4:]...) // identifier, sequence number, data
	if g.addrs.isGateway(dst) {
		g.echoReply(dst, body)
		return
	}
	if g.proxy != nil {
		g.log.Info("a ping is lost: the outbound proxy carries none", "to", to)
		return
	}
	select {
	case g.echoes <- struct{}{}:
	default:
		return
	}
	g.run(func(ctx context.Context) {
		defer func() { <-g.echoes }()
		ctx, cancel := context.WithTimeout(ctx, echoWait)
		defer cancel()
		if data, err := g.ping(ctx, to, body); err == nil {
			g.echoReply(dst, append(body[:4:4], data[:min(len(data), len(body)-4)]...))
		}
	})
}

// echoReply sends the guest a reply from an address.
func (g *Gateway) echoReply(from netip.Addr, body []byte) {
	if from.Is6() {
		g.sendICMPv6(from, g.addrs.Guest6, append([]byte{echoReply6, 0, 0, 0}, body...))
		return
	}
	m := append([]byte{echoReply4, 0, 0, 0}, body...)
	header.ICMPv4(m).SetChecksum(^checksum.Checksum(m, 0))
	g.link.frame(etherIPv4, append(ip4Header(from, g.addrs.Guest4, protoICMPv4, len(m)), m...))
}

// errNoEcho reports an answer to a ping that is none.
var errNoEcho = errors.New("no echo reply")

// hostPing sends a ping through a socket that needs no privileges, if the host has such,
// and returns the data of the answer. body is identifier, sequence number and data.
func hostPing(ctx context.Context, to netip.Addr, body []byte) ([]byte, error) {
	c, err := pingSocket(to)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request, reply := byte(echoRequest4), byte(echoReply4)
	if to.Is6() {
		request, reply = echoRequest6, echoReply6
	}
	m := append([]byte{request, 0, 0, 0}, body...)
	if to.Is4() {
		header.ICMPv4(m).SetChecksum(^checksum.Checksum(m, 0))
	}
	if _, err := c.WriteTo(m, &net.UDPAddr{IP: to.AsSlice()}); err != nil {
		return nil, err
	}
	b := make([]byte, header.IPv6MinimumSize+gsoMaxSize)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return nil, err
		}
		peer, ok := from.(*net.UDPAddr)
		if !ok || policy.Unwrap(peer.AddrPort().Addr()) != to {
			continue
		}
		if data, err := parseEcho(b[:n], reply, body[2:4]); err == nil {
			return data, nil
		}
	}
}

// parseEcho takes the data out of an echo reply, with or without an IP header. The kernel
// has seen to the identifier.
func parseEcho(b []byte, reply byte, sequence []byte) ([]byte, error) {
	if len(b) >= header.IPv4MinimumSize && b[0]>>4 == 4 && reply == echoReply4 {
		b = b[min(len(b), int(b[0]&15)*4):]
	}
	if len(b) >= header.IPv6MinimumSize && b[0]>>4 == 6 && b[6] == protoICMPv6 && reply == echoReply6 {
		b = b[header.IPv6MinimumSize:]
	}
	if len(b) < echoHeader || b[0] != reply || b[1] != 0 || b[6] != sequence[0] || b[7] != sequence[1] {
		return nil, errNoEcho
	}
	return b[echoHeader:], nil
}
