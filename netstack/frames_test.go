package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/gomsb/gomsb/netstack/policy"
)

var writeOptions = tcpip.WriteOptions{}

// endpointOf is a connected TCP endpoint of the guest's stack.
func endpointOf(t testing.TB, g *guest, to netip.AddrPort) tcpip.Endpoint {
	t.Helper()
	wq := new(waiter.Queue)
	ep, e := g.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), wq)
	require.Nil(t, e)
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	e = ep.Connect(full(to))
	require.IsType(t, &tcpip.ErrConnectStarted{}, e)
	<-ready
	wq.EventUnregister(&entry)
	require.Nil(t, ep.LastError())
	return ep
}

// ether is a frame from the guest's card to the gateway's.
func ether(a *Addresses, kind uint16, packet []byte) []byte {
	b := append(append([]byte(nil), a.GatewayMAC[:]...), a.GuestMAC[:]...)
	return append(binary.BigEndian.AppendUint16(b, kind), packet...)
}

// ip4 is an IPv4 packet from the guest.
func ip4(a *Addresses, to netip.Addr, proto byte, payload []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload))
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b) + len(payload)), TTL: 64, Protocol: proto,
		SrcAddr: tcpip.AddrFrom4(a.Guest4.As4()), DstAddr: tcpip.AddrFrom4(to.As4()),
	})
	return append(b, payload...)
}

// ip6 is an IPv6 packet from the guest.
func ip6(a *Addresses, to netip.Addr, next byte, payload []byte) []byte {
	b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(payload))
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(payload)), TransportProtocol: tcpip.TransportProtocolNumber(next), HopLimit: 64,
		SrcAddr: tcpip.AddrFrom16(a.Guest6.As16()), DstAddr: tcpip.AddrFrom16(to.As16()),
	})
	return append(b, payload...)
}

// syn is a frame that asks for a TCP connection, without a checksum.
func syn(a *Addresses, to netip.AddrPort, from uint16) []byte {
	b := make([]byte, header.TCPMinimumSize)
	header.TCP(b).Encode(&header.TCPFields{
		SrcPort: from, DstPort: to.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 1000,
	})
	return ether(a, etherIPv4, ip4(a, to.Addr(), protoTCP, b))
}

// datagram is a UDP header with a payload.
func datagram(from, to uint16, payload []byte) []byte {
	b := make([]byte, header.UDPMinimumSize, header.UDPMinimumSize+len(payload))
	header.UDP(b).Encode(&header.UDPFields{SrcPort: from, DstPort: to, Length: uint16(len(b) + len(payload))})
	return append(b, payload...)
}

// TestHostileFrames is F1, and N57 to N64: nothing comes of them, and the guest is served on.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.AllTraffic(), func(c *Config) {
		c.Ping = func(_ context.Context, to netip.Addr, _ []byte) ([]byte, error) {
			t.Errorf("a ping to %s", to)
			return nil, errNoEcho
		}
	})
	a := &g.addrs
	echo4 := append([]byte{8, 0, 0, 0, 1, 2, 3, 4}, "ping"...)
	echo6 := append([]byte{128, 0, 0, 0, 1, 2, 3, 4}, "ping"...)
	change := func(b []byte, at int, v ...byte) []byte {
		b = append([]byte(nil), b...)
		copy(b[at:], v)
		return b
	}
	good4 := ip4(a, world4, protoUDP, datagram(1, 9, []byte("x")))
	good6 := ip6(a, world6, protoUDP, datagram(1, 9, []byte("x")))
	hop := append([]byte{protoICMPv6, 0, 1, 4, 0, 0, 0, 0}, echo6...)
	fragment := append([]byte{protoICMPv6, 0, 0, 0, 0, 0, 0, 1}, echo6...)
	for name, b := range map[string][]byte{
		"nothing":                    {},
		"thirteen bytes":             make([]byte, 13),
		"N62 another card's":         change(ether(a, etherIPv4, good4), 6, 2, 2, 2, 2, 2, 2),
		"N62 to another card":        change(ether(a, etherIPv4, good4), 0, 2, 2, 2, 2, 2, 2),
		"N62 source address":         ether(a, etherIPv4, change(good4, 12, 172, 16, 0, 10)),
		"N62 the gateway's address":  ether(a, etherIPv4, change(good4, 12, 172, 16, 0, 5)),
		"N62 IPv6 source address":    ether(a, etherIPv6, change(good6, 23, 9)),
		"N62 link-local source":      ether(a, etherIPv6, change(good6, 8, 0xfe, 0x80)),
		"N62 VLAN tags":              ether(a, 0x8100, append([]byte{0, 1, 0x81, 0, 0, 1, 8, 0}, good4...)),
		"N62 ARP for another":        ether(a, etherARP, append(append([]byte(nil), arpRequest...), change(make([]byte, 20), 16, 172, 16, 0, 9)...)),
		"short ARP":                  ether(a, etherARP, arpRequest),
		"ARP reply":                  ether(a, etherARP, change(append(append([]byte(nil), arpRequest...), make([]byte, 20)...), 7, 2)),
		"loopback":                   ether(a, etherIPv4, ip4(a, netip.MustParseAddr("127.0.0.1"), protoUDP, datagram(1, 9, nil))),
		"IPv6 loopback":              ether(a, etherIPv6, ip6(a, netip.IPv6Loopback(), protoUDP, datagram(1, 9, nil))),
		"unspecified":                ether(a, etherIPv4, ip4(a, netip.MustParseAddr("0.0.0.0"), protoUDP, datagram(1, 9, nil))),
		"IPv6 unspecified":           ether(a, etherIPv6, ip6(a, netip.IPv6Unspecified(), protoUDP, datagram(1, 9, nil))),
		"mapped loopback":            ether(a, etherIPv6, ip6(a, netip.MustParseAddr("::ffff:127.0.0.1"), protoUDP, datagram(1, 9, nil))),
		"mapped unspecified":         ether(a, etherIPv6, ip6(a, netip.MustParseAddr("::ffff:0.0.0.0"), protoUDP, datagram(1, 9, nil))),
		"mapped":                     ether(a, etherIPv6, ip6(a, netip.AddrFrom16(world4.As16()), protoUDP, datagram(1, 9, nil))),
		"echo to a mapped address":   ether(a, etherIPv6, ip6(a, netip.AddrFrom16(world4.As16()), protoICMPv6, echo6)),
		"echo to a mapped gateway":   ether(a, etherIPv6, ip6(a, netip.AddrFrom16(a.Gateway4.As16()), protoICMPv6, echo6)),
		"version":                    ether(a, etherIPv4, change(good4, 0, 0x65)),
		"IPv6 version":               ether(a, etherIPv6, change(good6, 0, 0x40)),
		"header length":              ether(a, etherIPv4, change(good4, 0, 0x4f)),
		"header length 0":            ether(a, etherIPv4, change(good4, 0, 0x40)),
		"total length":               ether(a, etherIPv4, change(good4, 2, 0xff, 0xff)),
		"total length below":         ether(a, etherIPv4, change(good4, 2, 0, 19)),
		"IPv6 length":                ether(a, etherIPv6, change(good6, 4, 0xff, 0xff)),
		"truncated":                  ether(a, etherIPv4, good4[:19]),
		"truncated IPv6":             ether(a, etherIPv6, good6[:39]),
		"GRE":                        ether(a, etherIPv4, ip4(a, world4, 47, make([]byte, 100))),
		"ICMP fragment":              ether(a, etherIPv4, change(ip4(a, world4, protoICMPv4, echo4), 6, 0x20, 0)),
		"ICMP redirect":              ether(a, etherIPv4, ip4(a, world4, protoICMPv4, change(echo4, 0, 5))),
		"ICMP timestamp":             ether(a, etherIPv4, ip4(a, a.Gateway4, protoICMPv4, change(echo4, 0, 13))),
		"ICMP unreachable":           ether(a, etherIPv4, ip4(a, world4, protoICMPv4, append([]byte{3, 4, 0, 0, 0, 0, 0, 68}, good4...))),
		"ICMP echo reply":            ether(a, etherIPv4, ip4(a, a.Gateway4, protoICMPv4, change(echo4, 0, 0))),
		"ICMPv6 too big":             ether(a, etherIPv6, ip6(a, world6, protoICMPv6, append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, good6...))),
		"ICMPv6 redirect":            ether(a, etherIPv6, ip6(a, a.Gateway6, protoICMPv6, change(make([]byte, 40), 0, 137))),
		"ICMPv6 router solicitation": ether(a, etherIPv6, ip6(a, netip.MustParseAddr("ff02::2"), protoICMPv6, change(make([]byte, 8), 0, 133))),
		"ICMPv6 listener report":     ether(a, etherIPv6, ip6(a, netip.MustParseAddr("ff02::16"), protoICMPv6, change(make([]byte, 8), 0, 143))),
		"ICMPv6 in IPv4":             ether(a, etherIPv4, ip4(a, a.Gateway4, protoICMPv6, echo6)),
		"ICMP in IPv6":               ether(a, etherIPv6, ip6(a, a.Gateway6, protoICMPv4, echo4)),
		"IPv6 in IPv4":               ether(a, etherIPv4, ip4(a, world4, 41, good6)),
		"short echo":                 ether(a, etherIPv4, ip4(a, world4, protoICMPv4, echo4[:7])),
		"N63 echo behind hop-by-hop": ether(a, etherIPv6, ip6(a, world6, 0, hop)),
		"N63 echo in a fragment":     ether(a, etherIPv6, ip6(a, world6, protoFragment, fragment)),
		"N63 short fragment header":  ether(a, etherIPv6, ip6(a, world6, protoFragment, fragment[:7])),
		"N63 destination options":    ether(a, etherIPv6, ip6(a, world6, 60, append([]byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}, datagram(1, 9, nil)...))),
		"N63 authentication header":  ether(a, etherIPv6, ip6(a, world6, 51, append([]byte{protoUDP, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, datagram(1, 9, nil)...))),
		"N63 nothing follows":        ether(a, etherIPv6, ip6(a, world6, 59, nil)),
		"N63 fragment in a fragment": ether(a, etherIPv6, ip6(a, world6, protoFragment, append([]byte{protoFragment, 0, 0, 1, 0, 0, 0, 1}, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 1}, datagram(1, 9, nil)...)...))),
		"N63 routing header":         ether(a, etherIPv6, ip6(a, world6, 43, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, datagram(1, 9, nil)...))),
		"router advertisement":       ether(a, etherIPv6, ip6(a, a.Gateway6, protoICMPv6, change(make([]byte, 16), 0, 134))),
		"N64 TCP option of 0 bytes":  ether(a, etherIPv4, ip4(a, world4, protoTCP, change(change(make([]byte, 24), 0, 1, 2, 0, 80), 12, 0x60, 0x04, 0, 0, 0, 0, 0, 0, 8, 0))),
		"TCP header too long":        ether(a, etherIPv4, ip4(a, world4, protoTCP, change(make([]byte, 20), 12, 0xf0, 2))),
		"UDP length beyond":          ether(a, etherIPv4, ip4(a, world4, protoUDP, change(datagram(1, 9, []byte("x")), 4, 0xff, 0xff))),
		"UDP length below":           ether(a, etherIPv4, ip4(a, world4, protoUDP, change(datagram(1, 9, []byte("x")), 4, 0, 7))),
		"UDP port 0":                 ether(a, etherIPv4, ip4(a, world4, protoUDP, datagram(1, 0, nil))),
		"solicitation from afar":     ether(a, etherIPv6, ip6(a, a.Gateway6, protoICMPv6, append(change(make([]byte, 8), 0, 135), slice16(a.Gateway6)...))),
		"larger than any packet":     make([]byte, etherLen+header.IPv6MinimumSize+gsoMaxSize+1),
		"multicast":                  ether(a, etherIPv4, ip4(a, netip.MustParseAddr("224.0.0.251"), protoUDP, datagram(1, 9, nil))),
	} {
		g.sniff()
		g.Transmit(Offload{}, [][]byte{b})
		g.Transmit(Offload{GSO: GSOUDP, SegmentSize: 10}, [][]byte{b})
		select {
		case answer := <-g.raw:
			assert.Fail(t, "an answer", "%s: %x", name, answer)
		default:
		}
		g.Gateway.udp.mu.Lock()
		assert.Empty(t, g.Gateway.udp.sessions, name)
		g.Gateway.udp.mu.Unlock()
		assert.Zero(t, g.tcpCount.Load(), name)
	}
	g.udpWorld(at(world4, 123))
	talk(t, g.udp(0, at(world4, 123)), []byte("still there"))
}

func slice16(a netip.Addr) []byte { b := a.As16(); return b[:] }

// TestManyDatagramsInOneFrame: the guest leaves their division to the gateway.
func TestManyDatagramsInOneFrame(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), func(c *Config) { c.Resolver = answers{} })
	g.sniff()
	payload := []byte("aaaaaaaaaabbbbbbbbbbccc")
	for _, b := range [][]byte{
		ether(&g.addrs, etherIPv4, ip4(&g.addrs, world4, protoUDP, datagram(4000, 53, payload))),
		ether(&g.addrs, etherIPv6, ip6(&g.addrs, world6, protoUDP, datagram(4000, 53, payload))),
	} {
		g.Transmit(Offload{NeedsChecksum: true, GSO: GSOUDP, SegmentSize: 10}, [][]byte{b})
		seen := map[string]bool{}
		for len(seen) < 3 {
			f := g.hear(func(f []byte) bool { return bytes.Contains(f, []byte(" udp ")) })
			text, _, _ := bytes.Cut(f[bytes.LastIndexAny(f, "\x00\x01\x02\xff")+1:], []byte(" "))
			seen[string(text[max(0, len(text)-10):])] = true
		}
		for _, want := range []string{"aaaaaaaaaa", "bbbbbbbbbb"} {
			assert.True(t, seen[want], "%v", seen)
		}
	}
}

// FuzzTransmit sends any frames; the guest is served on.
func FuzzTransmit(f *testing.F) {
	a, err := Plan(1, Overrides{}, bothFamilies)
	require.NoError(f, err)
	f.Add(uint8(0), uint16(0), ether(&a, etherIPv4, ip4(&a, world4, protoUDP, datagram(1, 9, []byte("x")))))
	f.Add(uint8(3), uint16(2), ether(&a, etherIPv6, ip6(&a, world6, protoUDP, datagram(1, 53, []byte("xyz")))))
	f.Add(uint8(1), uint16(100), syn(&a, at(world4, 80), 7))
	f.Add(uint8(0), uint16(0), ether(&a, etherARP, arpRequest))
	f.Fuzz(func(t *testing.T, gso uint8, size uint16, frame []byte) {
		e, err := policy.New(policy.AllTraffic(), nil)
		require.NoError(t, err)
		g, err := New(Config{Addresses: a, Policy: e, Names: policy.NewIndex(nil), Resolver: answers{},
			Dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed },
			Ping: func(context.Context, netip.Addr, []byte) ([]byte, error) { return nil, errNoEcho },
		})
		require.NoError(t, err)
		heard := make(chan struct{}, 1)
		g.Plug(cardFunc(func(b []byte) {
			if len(b) > 41 && b[12] == 8 && b[13] == 6 {
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		}))
		g.Transmit(Offload{GSO: GSO(gso), SegmentSize: size}, [][]byte{frame})
		g.Transmit(Offload{}, [][]byte{ether(&a, etherARP, append(append([]byte(nil), arpRequest...), append(make([]byte, 16), 172, 16, 0, 5)...))})
		<-heard
		g.Close()
	})
}

// cardFunc is a card that shows what it gets.
type cardFunc func([]byte)

func (f cardFunc) Deliver(_ Offload, frame [][]byte) bool {
	f(bytes.Join(frame, nil))
	return true
}
func (cardFunc) Flush() {}
