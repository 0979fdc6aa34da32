package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	icmpUnreachable4, portUnreachable4 = 3, 3 // RFC 792
	icmpUnreachable6, portUnreachable6 = 1, 4 // RFC 4443 §3.1
)

// portUnreachable tells the guest in the name of a flow's peer that nobody listens there,
// as the peer's host told this one.
func (g *Gateway) portUnreachable(f flow) {
	quote := quoted(f, headsOf(f))
	if f.peer.Addr().Is4() {
		m := append([]byte{icmpUnreachable4, portUnreachable4, 0, 0, 0, 0, 0, 0}, quote...)
		header.ICMPv4(m).SetChecksum(^checksum.Checksum(m, 0))
		g.link.frame(etherIPv4, append(ip4Header(f.peer.Addr(), f.guest.Addr(), protoICMPv4, len(m)), m...))
		return
	}
	m := append([]byte{icmpUnreachable6, portUnreachable6, 0, 0, 0, 0, 0, 0}, quote...)
	g.sendICMPv6(f.peer.Addr(), f.guest.Addr(), m)
}

// quoted is a datagram of a flow's whose packet is length long, as far as an ICMP message
// has to quote it: a system needs the headers to know the socket.
func quoted(f flow, length int) []byte {
	udp := make([]byte, header.UDPMinimumSize)
	if f.peer.Addr().Is4() {
		n := length - header.IPv4MinimumSize
		header.UDP(udp).Encode(&header.UDPFields{SrcPort: f.guest.Port(), DstPort: f.peer.Port(), Length: uint16(n)})
		return append(ip4Header(f.guest.Addr(), f.peer.Addr(), protoUDP, n), udp...)
	}
	n := length - header.IPv6MinimumSize
	header.UDP(udp).Encode(&header.UDPFields{SrcPort: f.guest.Port(), DstPort: f.peer.Port(), Length: uint16(n)})
	return append(ip6Header(f.guest.Addr(), f.peer.Addr(), protoUDP, n), udp...)
}

// sendICMPv6 completes a message with its checksum and sends it to the guest.
func (g *Gateway) sendICMPv6(from, to netip.Addr, m []byte) {
	sum := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, tcpip.AddrFrom16(from.As16()), tcpip.AddrFrom16(to.As16()), uint16(len(m)))
	header.ICMPv6(m).SetChecksum(^checksum.Checksum(m, sum))
	g.link.frame(etherIPv6, append(ip6Header(from, to, protoICMPv6, len(m)), m...))
}

// ip4Header is the header of an IPv4 packet with n bytes of payload.
func ip4Header(from, to netip.Addr, proto uint8, n int) []byte {
	b := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+n)
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b) + n), TTL: replyTTL, Protocol: proto, SrcAddr: tcpip.AddrFrom4(from.As4()), DstAddr: tcpip.AddrFrom4(to.As4()),
	})
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	return b
}

// ip6Header is the same of IPv6.
func ip6Header(from, to netip.Addr, next uint8, n int) []byte {
	b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+n)
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: uint16(n), TransportProtocol: tcpip.TransportProtocolNumber(next), HopLimit: replyTTL,
		SrcAddr: tcpip.AddrFrom16(from.As16()), DstAddr: tcpip.AddrFrom16(to.As16()),
	})
	return b
}
