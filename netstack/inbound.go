package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	protoICMPv4   = 1
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44 // of IPv6
	protoICMPv6   = 58

	// Bits that are zero: of the flags in an IPv4 header, and in the fourth byte of an IPv6
	// fragment's.
	reservedBit4  = 0x80
	reservedBits6 = 0x06
)

// Transmit takes a frame of the guest's. The parts may be memory that the guest changes
// meanwhile; they are not used after the call.
func (g *Gateway) Transmit(o Offload, frame [][]byte) {
	size := 0
	for _, p := range frame {
		size += len(p)
	}
	if size < etherLen || size > etherLen+header.IPv6MinimumSize+gsoMaxSize {
		return
	}
	// One copy, and from here on nothing changes any more.
	view := buffer.NewViewSize(size)
	at := view.AsSlice()
	for _, p := range frame {
		at = at[copy(at, p):]
	}
	g.receive(o, view)
}

// receive sorts one frame, which it owns. Only what is known to be right goes to the
// stack: from the guest's own addresses, TCP or UDP, nothing that the stack would answer
// in the name of somebody else.
func (g *Gateway) receive(o Offload, view *buffer.View) {
	eth := view.AsSlice()
	etherType := binary.BigEndian.Uint16(eth[12:])
	if [6]byte(eth[6:12]) != g.addrs.GuestMAC || eth[0]&1 == 0 && [6]byte(eth[:6]) != g.addrs.GatewayMAC {
		view.Release() // another card's, or to one
		return
	}
	view.TrimFront(etherLen)
	packet := view.AsSlice()
	verdict := discard
	var proto tcpip.NetworkProtocolNumber
	switch etherType {
	case etherARP:
		g.answerARP(packet)
	case etherIPv4:
		proto, verdict = header.IPv4ProtocolNumber, g.sortIPv4(packet)
	case etherIPv6:
		proto, verdict = header.IPv6ProtocolNumber, g.sortIPv6(packet)
	}
	switch {
	case verdict == discard:
		view.Release()
	case o.GSO == GSOUDP:
		g.splitUDP(proto, packet, o.SegmentSize)
		view.Release()
	default:
		g.link.deliverUp(proto, view)
	}
}

// sorting is what becomes of a packet.
type sorting uint8

const (
	discard sorting = iota // or it was dealt with
	deliver
)

// sortIPv4 looks at an IPv4 packet and answers pings.
func (g *Gateway) sortIPv4(p []byte) sorting {
	if len(p) < header.IPv4MinimumSize {
		return discard
	}
	h := header.IPv4(p)
	hl := int(h.HeaderLength())
	if p[0]>>4 != 4 || hl < header.IPv4MinimumSize || hl > len(p) || int(h.TotalLength()) > len(p) || int(h.TotalLength()) < hl {
		return discard
	}
	src, dst := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	if src != g.addrs.Guest4 || isHere(dst) || p[6]&reservedBit4 != 0 {
		return discard
	}
	fragment := h.More() || h.FragmentOffset() != 0
	switch p[9] {
	case protoTCP:
		if size := int(h.TotalLength()); size <= int(g.link.mtu) && !fragment {
			g.link.acks.expect(p[hl:size])
			g.reopen(header.IPv4ProtocolNumber, p[12:16], p[16:20], p[hl:size])
		}
		return deliver
	case protoUDP:
		return deliver
	case protoICMPv4:
		if !fragment {
			g.echo(dst, p[hl:h.TotalLength()])
		}
	}
	return discard
}

// reopen looks at a segment of the guest's, from its TCP header on, and forgets the connection
// in TIME-WAIT between whose ports the guest opens another one: the stack would do so for a
// listener of its own only, and drops the segment otherwise. RFC 1122 §4.2.2.13 allows that;
// nothing old is under way between guest and gateway, whatever the sequence number. What
// somebody still reads from is left alone.
func (g *Gateway) reopen(proto tcpip.NetworkProtocolNumber, src, dst, segment []byte) {
	if len(segment) < header.TCPMinimumSize {
		return
	}
	h := header.TCP(segment)
	if h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst|header.TCPFlagFin) != header.TCPFlagSyn {
		return
	}
	id := stack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(dst), LocalPort: h.DestinationPort(),
		RemoteAddress: tcpip.AddrFromSlice(src), RemotePort: h.SourcePort(),
	}
	ep, ok := g.stack.FindTransportEndpoint(proto, tcp.ProtocolNumber, id, nicID).(*tcp.Endpoint)
	if ok && tcp.EndpointState(ep.State()) == tcp.StateTimeWait && finished(ep) {
		ep.Abort()
	}
}

// isHere reports that an address would lead to the host itself if the host dialled it:
// loopback, and the unspecified one, which Linux takes for loopback. No policy speaks of
// these, since nobody sends them on a wire.
func isHere(dst netip.Addr) bool {
	dst = policy.Unwrap(dst)
	return dst.IsLoopback() || dst.IsUnspecified()
}

// sortIPv6 looks at an IPv6 packet and answers pings and neighbour solicitations. Headers
// between IPv6's and TCP's or UDP's are refused, but for that of a fragment.
func (g *Gateway) sortIPv6(p []byte) sorting {
	if len(p) < header.IPv6MinimumSize {
		return discard
	}
	n := header.IPv6MinimumSize + int(header.IPv6(p).PayloadLength())
	if p[0]>>4 != 6 || n > len(p) {
		return discard
	}
	src, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	payload := p[header.IPv6MinimumSize:n]
	next := p[6]
	if next == protoICMPv6 && g.answerNeighbour(src, dst, p[7], payload) {
		return discard
	}
	if src != g.addrs.Guest6 || isHere(dst) || dst.Is4In6() { // mapped ones are never on a wire
		return discard
	}
	if next == protoFragment {
		// The stack would answer ICMP, and no system sends TCP in fragments (RFC 6691).
		if len(payload) < header.IPv6FragmentHeaderSize || payload[0] != protoUDP || payload[1] != 0 || payload[3]&reservedBits6 != 0 {
			return discard
		}
		next = protoUDP
	}
	switch next {
	case protoTCP:
		if n <= int(g.link.mtu) {
			g.link.acks.expect(payload)
			g.reopen(header.IPv6ProtocolNumber, p[8:24], p[24:40], payload)
		}
		return deliver
	case protoUDP:
		return deliver
	case protoICMPv6:
		g.echo(dst, payload)
	}
	return discard
}

// splitUDP makes datagrams with at most size bytes each of one that stands for many.
func (g *Gateway) splitUDP(proto tcpip.NetworkProtocolNumber, p []byte, size uint16) {
	hl := header.IPv6MinimumSize
	next := p[6]
	if proto == header.IPv4ProtocolNumber {
		hl, next = int(header.IPv4(p).HeaderLength()), p[9]
		p = p[:header.IPv4(p).TotalLength()]
	} else {
		p = p[:hl+int(header.IPv6(p).PayloadLength())]
	}
	heads := hl + header.UDPMinimumSize
	if next != protoUDP || len(p) < heads || size == 0 || int(header.UDP(p[hl:]).Length()) != len(p)-hl {
		return
	}
	for rest := p[heads:]; len(rest) > 0; {
		n := min(len(rest), int(size))
		view := buffer.NewViewSize(heads + n)
		b := view.AsSlice()
		copy(b, p[:heads])
		copy(b[heads:], rest[:n])
		rest = rest[n:]
		if proto == header.IPv4ProtocolNumber {
			header.IPv4(b).SetTotalLength(uint16(heads + n))
		} else {
			header.IPv6(b).SetPayloadLength(uint16(header.UDPMinimumSize + n))
		}
		header.UDP(b[hl:]).SetLength(uint16(header.UDPMinimumSize + n))
		g.link.deliverUp(proto, view)
	}
}
