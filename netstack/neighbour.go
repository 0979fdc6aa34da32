package netstack

import (
	"bytes"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// arpRequest is an ARP request for IPv4 over Ethernet up to the addresses (RFC 826).
var arpRequest = []byte{0, 1, 8, 0, 6, 4, 0, 1}

// answerARP tells the guest the gateway's hardware address, and nobody else's.
func (g *Gateway) answerARP(p []byte) {
	if len(p) < header.ARPSize || !bytes.HasPrefix(p, arpRequest) || !g.addrs.Gateway4.IsValid() {
		return
	}
	gateway := g.addrs.Gateway4.As4()
	if [4]byte(p[24:28]) != gateway {
		return
	}
	reply := make([]byte, 0, header.ARPSize)
	reply = append(reply, arpRequest...)
	reply[7] = 2
	reply = append(reply, g.addrs.GatewayMAC[:]...)
	reply = append(reply, gateway[:]...)
	reply = append(reply, p[8:18]...) // whoever asked
	g.link.frame(etherARP, reply)
}

const (
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	hopLimitOnLink         = 255
	advertiseFlags         = 0xe0 // router, solicited, override (RFC 4861 §4.4)
	optionTargetAddress    = 2
	solicitationSize       = 24 // without options
)

// answerNeighbour tells the guest the gateway's hardware address (RFC 4861 §7.2). It
// reports that the message was a neighbour solicitation, whether answered or not.
func (g *Gateway) answerNeighbour(src, dst netip.Addr, hopLimit byte, p []byte) bool {
	if len(p) < solicitationSize || p[0] != neighbourSolicitation {
		return false
	}
	target := netip.AddrFrom16([16]byte(p[8:24]))
	ours := g.addrs.Gateway6.IsValid() && target == g.addrs.Gateway6
	own := src == g.addrs.Guest6 || src.IsLinkLocalUnicast()
	if !ours || !own || hopLimit != hopLimitOnLink || p[1] != 0 {
		return true
	}
	b := make([]byte, header.IPv6MinimumSize+solicitationSize+8)
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: solicitationSize + 8, TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: hopLimitOnLink,
		SrcAddr: tcpip.AddrFrom16(target.As16()), DstAddr: tcpip.AddrFrom16(src.As16()),
	})
	m := b[header.IPv6MinimumSize:]
	m[0], m[4] = neighbourAdvertisement, advertiseFlags
	copy(m[8:24], p[8:24])
	m[24], m[25] = optionTargetAddress, 1 // in units of 8 bytes
	copy(m[26:], g.addrs.GatewayMAC[:])
	sum := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, tcpip.AddrFrom16(target.As16()), tcpip.AddrFrom16(src.As16()), uint16(len(m)))
	header.ICMPv6(m).SetChecksum(^checksum.Checksum(m, sum))
	g.link.frame(etherIPv6, b)
	return true
}
