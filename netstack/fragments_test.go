package netstack

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/gomsb/gomsb/netstack/policy"
)

// piece is a fragment of what follows a packet's header: bytes [from, to) of it, of which
// more follows or not.
type piece struct {
	from, to int
	more     bool
}

// fragment4 is a frame with a piece of an IPv4 packet.
func fragment4(a *Addresses, id uint16, whole []byte, p piece) []byte {
	b := slices.Clone(whole[:header.IPv4MinimumSize])
	b = append(b, whole[header.IPv4MinimumSize:][p.from:p.to]...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[4:], id)
	offset := uint16(p.from / 8)
	if p.more {
		offset |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], offset)
	binary.BigEndian.PutUint16(b[10:], 0)
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	return ether(a, etherIPv4, b)
}

// fragment6 is the same of IPv6.
func fragment6(a *Addresses, id uint16, whole []byte, p piece) []byte {
	b := slices.Clone(whole[:header.IPv6MinimumSize])
	offset := uint16(p.from)
	if p.more {
		offset |= 1
	}
	h := binary.BigEndian.AppendUint16([]byte{b[6], 0}, offset)
	h = binary.BigEndian.AppendUint32(h, uint32(id))
	b[6] = protoFragment
	b = append(append(b, h...), whole[header.IPv6MinimumSize:][p.from:p.to]...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-header.IPv6MinimumSize))
	return ether(a, etherIPv6, b)
}

// TestFragments is F6, at the stack: what comes together is judged whole, and what cannot is
// nothing to anybody.
func TestFragments(t *testing.T) {
	t.Parallel()
	const size = 1600 // with the header of UDP
	payload := make([]byte, size-header.UDPMinimumSize)
	for i := range payload {
		payload[i] = byte(i % 251)
	}
	two := []piece{{0, 800, true}, {800, size, false}}
	for name, c := range map[string]struct {
		pieces []piece
		whole  bool
		change func(frame []byte, v6 bool)
	}{
		"F6 two pieces":             {two, true, nil},
		"F6 the last one first":     {[]piece{two[1], two[0]}, true, nil},
		"F6 three pieces":           {[]piece{{800, 1200, true}, {0, 800, true}, {1200, size, false}}, true, nil},
		"F6 missing middle":         {[]piece{{0, 800, true}, {1200, size, false}}, false, nil},
		"F6 missing end":            {[]piece{{0, 800, true}, {800, 1200, true}}, false, nil},
		"F6 missing start":          {[]piece{{800, size, false}}, false, nil},
		"F6 N63 overlap":            {[]piece{{0, 800, true}, {792, size, false}}, false, nil},
		"F6 N63 overlap in between": {[]piece{{0, 808, true}, {1200, size, false}, {800, 1200, true}}, false, nil},
		"F6 reserved bits": {two, false, func(f []byte, v6 bool) {
			if v6 {
				f[etherLen+43] |= 2
				return
			}
			f[etherLen+6] |= 0x80
		}},
		"F6 reserved byte": {two, false, func(f []byte, v6 bool) {
			f[etherLen+map[bool]int{false: 6, true: 41}[v6]] |= 0x80
		}},
		"beyond any packet": {[]piece{{0, 800, true}}, false, func(f []byte, v6 bool) {
			if v6 {
				f[etherLen+42], f[etherLen+43] = 0xff, 0xf8
				return
			}
			f[etherLen+6], f[etherLen+7] = 0x1f, 0xff
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, policy.Default(), nil)
			for _, v6 := range []bool{false, true} {
				to, fragment, packet := at(world4, 99), fragment4, ip4
				if v6 {
					to, fragment, packet = at(world6, 99), fragment6, ip6
				}
				whole := packet(&g.addrs, to.Addr(), protoUDP, datagram(4000, 99, payload))
				want := g.Gateway.account.flows.Load()
				if c.whole {
					want++
				}
				for _, p := range c.pieces {
					f := fragment(&g.addrs, 7, whole, p)
					if c.change != nil {
						c.change(f, v6)
					}
					g.Transmit(Offload{}, [][]byte{f})
				}
				// Nobody is there, so that the flow may be over already.
				assert.Equal(t, want, g.Gateway.account.flows.Load(), "IPv6: %v", v6)
			}
		})
	}
}

// TestFragmentsAreJudged: no piece of a packet goes where the whole one may not.
func TestFragmentsAreJudged(t *testing.T) {
	t.Parallel()
	g := newGuest(t, rules(t, "deny@any:udp:99,allow@public"), nil)
	for _, port := range []uint16{99, 853, 5353} { // denied, and refused whatever the policy says
		whole := ip4(&g.addrs, world4, protoUDP, datagram(4000, port, make([]byte, 1600)))
		for _, p := range []piece{{800, 1608, false}, {0, 800, true}} {
			g.Transmit(Offload{}, [][]byte{fragment4(&g.addrs, port, whole, p)})
		}
	}
	metadata := netip.MustParseAddr("169.254.169.254")
	g.tcpWorld(at(metadata, 99), func(*net.TCPConn) { t.Error("a connection to the metadata address") })
	// A SYN in two pieces is one SYN; in IPv6 it is nothing.
	for _, v6 := range []bool{false, true} {
		tcp := make([]byte, header.TCPMinimumSize+4)
		header.TCP(tcp).Encode(&header.TCPFields{SrcPort: 4000, DstPort: 99, SeqNum: 1, DataOffset: header.TCPMinimumSize + 4, Flags: header.TCPFlagSyn, WindowSize: 1000})
		if v6 {
			whole := ip6(&g.addrs, world6, protoTCP, tcp)
			g.Transmit(Offload{}, [][]byte{fragment6(&g.addrs, 9, whole, piece{0, 16, true})})
			g.Transmit(Offload{}, [][]byte{fragment6(&g.addrs, 9, whole, piece{16, 24, false})})
			continue
		}
		whole := ip4(&g.addrs, metadata, protoTCP, tcp)
		g.Transmit(Offload{}, [][]byte{fragment4(&g.addrs, 9, whole, piece{0, 16, true})})
		g.Transmit(Offload{}, [][]byte{fragment4(&g.addrs, 9, whole, piece{16, 24, false})})
	}
	g.Gateway.udp.mu.Lock()
	assert.Empty(t, g.Gateway.udp.sessions)
	g.Gateway.udp.mu.Unlock()
	require.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
}

// TestFragmentFlood: what never comes together is bounded, and keeps nothing else out.
func TestFragmentFlood(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	whole4 := ip4(&g.addrs, world4, protoUDP, datagram(4000, 99, make([]byte, 4000)))
	whole6 := ip6(&g.addrs, world6, protoUDP, datagram(4000, 99, make([]byte, 4000)))
	for i := range 8000 { // 11 MB of each family, where 4 MiB are kept
		g.Transmit(Offload{}, [][]byte{fragment4(&g.addrs, uint16(i), whole4, piece{0, 1400, true})})
		g.Transmit(Offload{}, [][]byte{fragment6(&g.addrs, uint16(i), whole6, piece{0, 1400, true})})
	}
	g.udpWorld(at(world4, 99))
	g.udpWorld(at(world6, 99))
	talk(t, g.udp(0, at(world4, 99)), make([]byte, 5000))
	talk(t, g.udp(0, at(world6, 99)), make([]byte, 5000))
}
