package netstack

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/policy"
)

// inside are addresses that a guest which may reach the public Internet may not, each with
// what it is.
var inside = map[string]string{
	"169.254.169.254":          "metadata",
	"64:ff9b::169.254.169.254": "metadata by NAT64",
	"64:ff9b:1::a9fe:a9fe":     "metadata by NAT64 of the operator's own",
	"fd00:ec2::254":            "metadata of IPv6",
	"169.254.1.1":              "link-local",
	"fe80::1":                  "link-local of IPv6",
	"10.0.0.5":                 "a private network",
	"172.31.0.1":               "a private network",
	"192.168.1.1":              "a private network",
	"100.64.0.1":               "a carrier's network",
	"fd12:3456::1":             "a private network of IPv6",
	"fec0::1":                  "a private network of IPv6 as it once was",
	"64:ff9b::10.0.0.5":        "a private network by NAT64",
	"172.16.0.2":               "another sandbox",
	"172.16.0.1":               "another sandbox's gateway",
	"fd42:6d73:62:2::2":        "another sandbox by IPv6",
	"fd42:6d73:62:2::1":        "another sandbox's gateway by IPv6",
	"172.16.0.5":               "the host, by the gateway",
	"fd42:6d73:62:1::1":        "the host, by the gateway's IPv6 address",
	"127.0.0.1":                "the host's loopback",
	"127.8.8.8":                "the host's loopback",
	"::1":                      "the host's loopback of IPv6",
	"64:ff9b::127.0.0.1":       "the host's loopback by NAT64",
	"::ffff:127.0.0.1":         "the host's loopback, mapped",
	"::ffff:10.0.0.5":          "a private network, mapped",
	"::ffff:93.184.216.34":     "a public address, mapped: on no wire",
	"0.0.0.0":                  "nobody, or the host",
	"0.1.2.3":                  "nobody",
	"::":                       "nobody, or the host",
	"240.0.0.1":                "nobody",
	"255.255.255.255":          "everybody here",
	"224.0.0.251":              "a group",
	"ff02::fb":                 "a group of IPv6",
}

// TestEscapeByAddress: what is not public is not dialled, by any protocol, under the policy
// that a sandbox has if nobody says anything.
func TestEscapeByAddress(t *testing.T) {
	t.Parallel()
	log := new(lines)
	g := newGuest(t, policy.Default(), func(c *Config) {
		c.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
			t.Errorf("dialled %s %s", network, address)
			return nil, net.ErrClosed
		}
		c.Ping = func(_ context.Context, to netip.Addr, _ []byte) ([]byte, error) {
			t.Errorf("pinged %s", to)
			return nil, errNoEcho
		}
		c.Logger = log.logger()
	})
	for text := range inside {
		to := netip.MustParseAddr(text)
		kind, packet, ping, proto := uint16(etherIPv4), ip4, []byte{echoRequest4, 0, 0, 0, 1, 2, 3, 4}, byte(protoICMPv4)
		if to.Is6() {
			kind, packet, ping, proto = etherIPv6, ip6, []byte{echoRequest6, 0, 0, 0, 1, 2, 3, 4}, protoICMPv6
		}
		g.Transmit(Offload{}, [][]byte{synOf(&g.addrs, to, 80)})
		g.Transmit(Offload{}, [][]byte{ether(&g.addrs, kind, packet(&g.addrs, to, protoUDP, datagram(4000, 80, []byte("x"))))})
		g.Transmit(Offload{}, [][]byte{ether(&g.addrs, kind, packet(&g.addrs, to, proto, ping))})
	}
	require.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
	g.Gateway.udp.mu.Lock()
	assert.Empty(t, g.Gateway.udp.sessions)
	g.Gateway.udp.mu.Unlock()
	assert.Contains(t, log.String(), "denied by default")
}

// synOf is a frame that asks for a TCP connection to an address of either family.
func synOf(a *Addresses, to netip.Addr, port uint16) []byte {
	b := syn(a, at(world4, port), 4000)
	tcp := b[etherLen+20:]
	if to.Is4() {
		return ether(a, etherIPv4, ip4(a, to, protoTCP, tcp))
	}
	return ether(a, etherIPv6, ip6(a, to, protoTCP, tcp))
}

// TestEscapeByLoopback: no rule opens addresses that nobody has on a wire; the gateway's
// stands for the host.
func TestEscapeByLoopback(t *testing.T) {
	t.Parallel()
	g := newGuest(t, rules(t, "allow@loopback,allow@any"), func(c *Config) {
		c.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
			t.Errorf("dialled %s %s", network, address)
			return nil, net.ErrClosed
		}
	})
	for _, text := range []string{"127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"} {
		to := netip.MustParseAddr(text)
		g.Transmit(Offload{}, [][]byte{synOf(&g.addrs, to, 80)})
		if to.Is4() {
			g.Transmit(Offload{}, [][]byte{ether(&g.addrs, etherIPv4, ip4(&g.addrs, to, protoUDP, datagram(4000, 80, nil)))})
			continue
		}
		g.Transmit(Offload{}, [][]byte{ether(&g.addrs, etherIPv6, ip6(&g.addrs, to, protoUDP, datagram(4000, 80, nil)))})
	}
	require.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
	g.Gateway.udp.mu.Lock()
	assert.Empty(t, g.Gateway.udp.sessions)
	g.Gateway.udp.mu.Unlock()
}

// TestDenialsSayWhy: the rule that decided, in the words of its writer.
func TestDenialsSayWhy(t *testing.T) {
	t.Parallel()
	log := new(lines)
	g := newGuest(t, rules(t, "deny@93.184.216.0/24:tcp:80,allow@public,deny:ingress@loopback"), func(c *Config) {
		c.Logger = log.logger()
		c.Published = []Published{{netip.MustParseAddrPort("127.0.0.1:0"), 80, policy.TCP}}
	})
	_, err := g.dial(at(world4, 80))
	require.ErrorContains(t, err, "refused")
	_, err = g.dial(at(netip.MustParseAddr("10.0.0.5"), 80))
	require.ErrorContains(t, err, "refused")
	assert.ErrorContains(t, connectAndRead(t, g.Ports()[0].Host), "reset")
	for _, want := range []string{
		`to=93.184.216.34 port=80 name="" decision="denied by rule 1, deny@93.184.216.0/24:tcp:80"`,
		`to=10.0.0.5 port=80 name="" decision="denied by default"`,
		`from=127.0.0.1 port=80 decision="denied by rule 3, deny:ingress@loopback"`,
	} {
		require.Eventually(t, func() bool { return strings.Contains(log.String(), want) }, watchdog, time.Millisecond, want)
	}
	assert.Equal(t, Account{Connections: 2, Denied: 2, DeniedInbound: 1}, g.Account())
}

// TestPeersAreBounded is F9: no port of the gateway is left for one more peer.
func TestPeersAreBounded(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), func(c *Config) {
		c.Published = []Published{{netip.MustParseAddrPort("127.0.0.1:0"), 5300, policy.UDP}}
	})
	peers := lastEphemeral - firstEphemeral + 1
	for i := range peers + 1 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		port, ok := g.peers.portFor(peerKey{g.ports[0], at(a, 9)})
		assert.Equal(t, i < peers, ok)
		if ok {
			require.GreaterOrEqual(t, port, uint16(firstEphemeral))
		}
	}
	g.peers.expire(time.Now().Add(udpIdle + time.Second))
	_, ok := g.peers.portFor(peerKey{g.ports[0], at(world4, 9)})
	assert.True(t, ok, "once the others are silent")
}

// TestAccount counts what was carried.
func TestAccount(t *testing.T) {
	t.Parallel()
	g := newGuest(t, rules(t, "allow@public,allow:ingress@any"), func(c *Config) {
		c.MaxConnections = 1
		c.Published = []Published{{netip.MustParseAddrPort("127.0.0.1:0"), 80, policy.TCP}}
		c.Ping = func(_ context.Context, _ netip.Addr, body []byte) ([]byte, error) { return body[4:], nil }
	})
	g.tcpWorld(at(world4, 80), echoes)
	g.udpWorld(at(world4, 99))
	_ = g.mustDial(at(world4, 80))
	_, err := g.dial(at(world4, 80))
	require.ErrorContains(t, err, "refused", "one is all it may have")
	talk(t, g.udp(0, at(world4, 99)), []byte("x"))
	_, ok := g.ping(world4, "x", watchdog)
	require.True(t, ok)
	assert.ErrorContains(t, connectAndRead(t, g.Ports()[0].Host), "reset", "nobody listens")
	assert.Equal(t, Account{Connections: 2, Flows: 1, Pings: 1, Inbound: 1, TooMany: 1}, g.Account())
}
