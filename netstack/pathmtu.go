package netstack

import (
	"net"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	fragmentationNeeded4 = 4 // code of icmpUnreachable4, RFC 1191
	packetTooBig6        = 2 // RFC 4443 §3.2

	// Smallest MTUs that a path can have: RFC 791, RFC 8200 §5.
	minMTU4, minMTU6 = 68, 1280
)

// path is what a socket of the host's knows of the way to the one end that it is connected
// to.
type path interface {
	// Whole has datagrams sent in one packet each, or fail with EMSGSIZE; or in fragments if
	// need be.
	Whole(bool) error
	// MTU is the largest packet that gets through as far as is known, 0 if nothing is.
	MTU() int
}

// pathOf is the path of a connection; nil if it tells nothing.
func pathOf(c net.Conn) path {
	if p, ok := c.(path); ok {
		return p
	}
	return socketPath(c)
}

// write sends a datagram. One that the guest sent whole and that does not fit the path goes
// in fragments, and the guest is told what would fit, as a router would: whoever looks for
// the path's MTU finds it, and whoever does not loses nothing.
func (s *udpSession) write(c net.Conn, way path, data []byte) error {
	size := headsOf(s.flow) + len(data)
	whole := size <= int(s.g.addrs.MTU)
	if whole {
		s.largest.Store(max(s.largest.Load(), int64(size)))
	}
	s.sendWhole(way, whole)
	_, err := c.Write(data)
	if way == nil || !whole || !tooLong(err) {
		return err
	}
	s.tooBig(way)
	s.sendWhole(way, false)
	_, err = c.Write(data)
	return err
}

// sendWhole has what follows sent in one packet each, or in fragments if need be.
func (s *udpSession) sendWhole(way path, whole bool) {
	if way != nil && whole == s.loose && way.Whole(whole) == nil {
		s.loose = !whole
	}
}

// tooBig tells the guest the MTU of the flow's path, if it has sent a packet that does not
// fit.
func (s *udpSession) tooBig(way path) {
	mtu, sent := way.MTU(), int(s.largest.Load())
	least := minMTU4
	if s.flow.peer.Addr().Is6() {
		least = minMTU6
	}
	if mtu >= least && mtu < sent {
		s.g.packetTooBig(s.flow, mtu, sent)
	}
}

// headsOf is the length of the headers of a flow's datagrams.
func headsOf(f flow) int {
	if f.peer.Addr().Is4() {
		return header.IPv4MinimumSize + header.UDPMinimumSize
	}
	return header.IPv6MinimumSize + header.UDPMinimumSize
}

// packetTooBig tells the guest in the name of a flow's peer that its packet of some length
// exceeds an MTU on the way (RFC 1191 §4, RFC 8201 §4).
func (g *Gateway) packetTooBig(f flow, mtu, length int) {
	if f.peer.Addr().Is4() {
		m := append([]byte{icmpUnreachable4, fragmentationNeeded4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quoted(f, length)...)
		header.ICMPv4(m).SetChecksum(^checksum.Checksum(m, 0))
		g.link.frame(etherIPv4, append(ip4Header(f.peer.Addr(), f.guest.Addr(), protoICMPv4, len(m)), m...))
		return
	}
	m := append([]byte{packetTooBig6, 0, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quoted(f, length)...)
	g.sendICMPv6(f.peer.Addr(), f.guest.Addr(), m)
}
