package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
)

const quiet = 30 * time.Millisecond

// talk sends a datagram through an echo and waits for it.
func talk(t testing.TB, c *gonet.UDPConn, data []byte) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(watchdog)))
	_, err := c.Write(data)
	require.NoError(t, err)
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, b[:n]), "%d bytes", n)
}

// nothing checks that no datagram comes.
func nothing(t testing.TB, c *gonet.UDPConn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(quiet)))
	_, err := c.Read(make([]byte, 10))
	require.ErrorContains(t, err, "timeout")
}

func TestDatagrams(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	for _, a := range []netip.Addr{world4, world6} {
		g.udpWorld(at(a, 123))
		c := g.udp(0, at(a, 123))
		for _, n := range []int{0, 1, 1400, 1473, 9000, 60000} { // in fragments both ways from 1473 on
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(i % 251)
			}
			talk(t, c, data)
		}
	}
	g.Gateway.udp.mu.Lock()
	assert.Len(t, g.Gateway.udp.sessions, 2)
	g.Gateway.udp.mu.Unlock()
	g.Gateway.udp.expire(time.Now().Add(udpIdle + time.Second))
	g.Gateway.udp.mu.Lock()
	assert.Empty(t, g.Gateway.udp.sessions)
	g.Gateway.udp.mu.Unlock()
	talk(t, g.udp(0, at(world4, 123)), []byte("again"))
}

// TestDatagramsThatGoNowhere is U11.
func TestDatagramsThatGoNowhere(t *testing.T) {
	t.Parallel()
	g := newGuest(t, rules(t, "allow@public,deny@host,allow@any:udp:1-1000"), nil)
	inside := netip.MustParseAddr("10.0.0.5")
	for name, to := range map[string]netip.AddrPort{
		"denied": at(inside, 2000), "DNS over QUIC": at(world4, 853), "mDNS": at(world4, 5353), "LLMNR": at(world4, 5355), "NetBIOS": at(world4, 137),
		"host": at(g.addrs.Gateway4, 100),
	} {
		g.udpWorld(to)
		c := g.udp(0, to)
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		nothing(t, c)
		g.Gateway.udp.mu.Lock()
		assert.Empty(t, g.Gateway.udp.sessions, name)
		g.Gateway.udp.mu.Unlock()
	}
}

// TestNobodyListens: the guest learns it as fast as the host does.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	for _, a := range []netip.Addr{world4, world6} {
		g.world.set("udp", at(a, 123).String(), "127.0.0.1:1")
		c := g.udp(0, at(a, 123))
		for range 2 { // the flow ends, and begins anew
			_, err := c.Write([]byte("x"))
			require.NoError(t, err)
			require.Eventually(t, func() bool { // an error does not wake a reader of gonet's
				require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
				_, err := c.Read(make([]byte, 10))
				return strings.Contains(err.Error(), "refused")
			}, watchdog, time.Millisecond)
		}
	}
}

func TestHostLoopbackByDatagram(t *testing.T) {
	t.Parallel()
	g := newGuest(t, rules(t, "allow@host:udp"), nil)
	talk(t, g.udp(0, at(g.addrs.Gateway4, udpEcho(t).Port())), []byte("hello"))
}

// TestFlowsAreBounded: the one that is idle longest gives way, and comes back.
func TestFlowsAreBounded(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	g.udpWorld(at(world4, 123))
	for i := range maxSessions + 5 {
		talk(t, g.udp(uint16(2000+i), at(world4, 123)), []byte("x"))
	}
	g.Gateway.udp.mu.Lock()
	assert.Len(t, g.Gateway.udp.sessions, maxSessions)
	g.Gateway.udp.mu.Unlock()
}

// answers is a resolver that says who asked how.
type answers struct{}

func (answers) Answer(_ context.Context, q []byte, w dns.Way) []byte {
	if string(q) == "silence" {
		return nil
	}
	return []byte(string(q) + " " + string(w.Protocol) + " " + w.Resolver.String())
}

// TestQuestions is U12 and the part of U11 that is DNS.
func TestQuestions(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.NoTraffic(), func(c *Config) { c.Resolver = answers{} })
	for to, want := range map[netip.AddrPort]string{
		at(g.addrs.Gateway4, 53): "q udp invalid IP", at(g.addrs.Gateway6, 53): "q udp invalid IP",
		at(world4, 53): "q udp 93.184.216.34", at(world6, 53): "q udp 2606:2800:220:1::34",
	} {
		c := g.udp(0, to)
		_, err := c.Write([]byte("silence"))
		require.NoError(t, err)
		_, err = c.Write([]byte("q"))
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(watchdog)))
		b := make([]byte, 100)
		n, err := c.Read(b)
		require.NoError(t, err)
		assert.Equal(t, want, string(b[:n]))
	}
	large := g.udp(0, at(g.addrs.Gateway4, 53))
	_, err := large.Write(make([]byte, maxQuery+1))
	require.NoError(t, err)
	nothing(t, large)

	c := g.mustDial(at(world4, 53))
	message := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	stream := bytes.Join([][]byte{message("a"), message(""), message("silence"), message("b")}, nil)
	for i := range stream { // in the smallest pieces
		_, err := c.Write(stream[i : i+1])
		require.NoError(t, err)
	}
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	x, y := message("a tcp 93.184.216.34"), message("b tcp 93.184.216.34")
	assert.Contains(t, []string{string(x) + string(y), string(y) + string(x)}, string(b))
}

// crowd is a resolver that answers once it is released, and counts who waits.
type crowd struct {
	waiting atomic.Int64
	release chan struct{}
}

func (r *crowd) Answer(ctx context.Context, q []byte, _ dns.Way) []byte {
	r.waiting.Add(1)
	select {
	case <-r.release:
		return q
	case <-ctx.Done():
		return nil
	}
}

// TestQuestionsOnConnectionsAreBounded over all connections, and none is lost.
func TestQuestionsOnConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	r := &crowd{release: make(chan struct{})}
	g := newGuest(t, policy.NoTraffic(), func(c *Config) { c.Resolver = r })
	var conns []*gonet.TCPConn
	for range maxQueries/pipelined + 2 {
		c := g.mustDial(at(g.addrs.Gateway4, 53))
		_, err := c.Write(bytes.Repeat([]byte{0, 1, 'q'}, pipelined))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		conns = append(conns, c)
	}
	require.Eventually(t, func() bool { return r.waiting.Load() >= maxQueries }, watchdog, time.Millisecond)
	assert.Never(t, func() bool { return r.waiting.Load() > maxQueries }, quiet, time.Millisecond)
	close(r.release)
	for _, c := range conns {
		b, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Len(t, b, 3*pipelined)
	}
}

// TestPublishedPorts is F9.
func TestPublishedPorts(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	p := policy.NoTraffic()
	p.DefaultIngress = policy.Allow
	g := newGuest(t, p, func(c *Config) {
		c.Published = []Published{{loopback, 8080, policy.TCP}, {loopback, 9, policy.TCP}, {loopback, 5300, policy.UDP}, {loopback, 5300, policy.UDP}}
	})
	l := g.listen(8080)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
				_ = c.(*gonet.TCPConn).CloseWrite()
			}()
		}
	}()
	ports := g.Ports()
	require.Len(t, ports, 4)
	for range 20 {
		c, err := net.Dial("tcp", ports[0].Host.String())
		require.NoError(t, err)
		exchange(t, c.(*net.TCPConn), "through the host's port")
		require.NoError(t, c.Close())
	}
	assert.ErrorContains(t, connectAndRead(t, ports[1].Host), "reset", "nobody listens in the guest")
	assert.Eventually(t, func() bool { return g.inbound.Load() == 0 }, watchdog, time.Millisecond)

	local := full(at(g.addrs.Guest4, 5300))
	socket, err := gonet.DialUDP(g.stack, &local, nil, header.IPv4ProtocolNumber)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		for {
			n, from, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = socket.WriteTo(b[:n], from)
		}
	}()
	for i := range 4 {
		c, err := net.Dial("udp", ports[2+i%2].Host.String())
		require.NoError(t, err)
		for range 3 {
			_, err = io.WriteString(c, "datagram")
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(watchdog)))
			b := make([]byte, 100)
			n, err := c.Read(b)
			require.NoError(t, err)
			assert.Equal(t, "datagram", string(b[:n]))
		}
		require.NoError(t, c.Close())
	}
	g.peers.expire(time.Now().Add(udpIdle + time.Second))
	assert.Empty(t, g.peers.byPort)
	assert.Empty(t, g.peers.byKey)
	require.NoError(t, socket.Close())
	<-done
}

// connectAndRead reads to the end of a connection and returns the error that comes, be it
// when it is opened or later.
func connectAndRead(t *testing.T, to netip.AddrPort) error {
	c, err := net.Dial("tcp", to.String())
	if err == nil {
		_, err = io.ReadAll(c)
		require.NoError(t, c.Close())
	}
	return err
}

func TestPolicyOfPublishedPorts(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	g := newGuest(t, rules(t, "deny:ingress@any:tcp:8080,deny:any@loopback"), func(c *Config) {
		c.Published = []Published{{loopback, 8080, policy.TCP}, {loopback, 5300, policy.UDP}}
	})
	g.listen(8080)
	assert.ErrorContains(t, connectAndRead(t, g.Ports()[0].Host), "reset")
	u, err := net.Dial("udp", g.Ports()[1].Host.String())
	require.NoError(t, err)
	_, err = io.WriteString(u, "x")
	require.NoError(t, err)
	time.Sleep(quiet)
	assert.Empty(t, g.peers.byPort)
	require.NoError(t, u.Close())
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	busy := server(t, "127.0.0.1:0", echoes)
	a, err := Plan(0, Overrides{}, bothFamilies)
	require.NoError(t, err)
	e, err := policy.New(policy.Default(), nil)
	require.NoError(t, err)
	free := netip.MustParseAddrPort("127.0.0.1:0")
	_, err = New(Config{Addresses: a, Policy: e, Names: policy.NewIndex(nil), Published: []Published{{free, 1, policy.TCP}, {busy, 1, policy.TCP}}})
	assert.ErrorIs(t, err, ErrPublish)
	assert.ErrorContains(t, err, busy.String())
	none, err := Plan(0, Overrides{}, Families{})
	require.NoError(t, err)
	g, err := New(Config{Addresses: none, Policy: e, Names: policy.NewIndex(nil), Published: []Published{{busy, 1, policy.TCP}}})
	require.NoError(t, err, "it would lead nowhere")
	assert.Empty(t, g.Ports())
	g.Close()
}

// TestEcho is F2.
func TestEcho(t *testing.T) {
	t.Parallel()
	asked := make(chan netip.Addr, 10)
	g := newGuest(t, rules(t, "allow@host:icmpv4,allow@host:icmpv6,allow@public"), func(c *Config) {
		c.Ping = func(_ context.Context, to netip.Addr, body []byte) ([]byte, error) {
			asked <- to
			return append([]byte("from afar "), body[4:]...), nil
		}
	})
	for _, a := range []netip.Addr{g.addrs.Gateway4, g.addrs.Gateway6} {
		data, ok := g.ping(a, "ping", watchdog)
		assert.True(t, ok)
		assert.Equal(t, "ping", data)
	}
	for _, a := range []netip.Addr{world4, world6} {
		data, ok := g.ping(a, "ping and more", watchdog)
		assert.True(t, ok)
		assert.Equal(t, "from afar ping and more"[:13], data, "as long as what was sent")
		assert.Equal(t, a, <-asked)
	}
	_, ok := g.ping(netip.MustParseAddr("10.0.0.1"), "ping", quiet)
	assert.False(t, ok)
	assert.Empty(t, asked)
}

func TestEchoIsDeniedByDefault(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), func(c *Config) {
		c.Ping = func(context.Context, netip.Addr, []byte) ([]byte, error) { return nil, errNoEcho }
	})
	for _, a := range []netip.Addr{g.addrs.Gateway4, g.addrs.Gateway6, world4, world6} {
		_, ok := g.ping(a, "ping", quiet)
		assert.False(t, ok, "nobody answers in the name of %s", a)
	}
}

// TestEchoReplies is F7.
func TestEchoReplies(t *testing.T) {
	t.Parallel()
	sequence := []byte{0xab, 0xcd}
	bare := append([]byte{0, 0, 1, 2, 9, 9, 0xab, 0xcd}, "data"...)
	six := append([]byte{129, 0, 1, 2, 9, 9, 0xab, 0xcd}, "data"...)
	behind := append(make([]byte, 20), bare...)
	behind[0] = 0x45
	behind6 := append(make([]byte, 40), six...)
	behind6[0], behind6[6] = 0x60, protoICMPv6
	for name, c := range map[string]struct {
		b     []byte
		reply byte
		ok    bool
	}{
		"F7 bare": {bare, 0, true}, "F7 IPv4 header": {behind, 0, true}, "F7 ICMPv6": {six, 129, true}, "F7 IPv6 header": {behind6, 129, true},
		"F7 macOS, whose lengths are in the order of the host": {append([]byte{0x45, 0, 12, 0}, behind[4:]...), 0, true},
		"IPv6 header before ICMP":                              {behind6, 0, false}, "IPv6 header only": {behind6[:40], 129, false},
		"another sequence number": {append([]byte{0, 0, 1, 2, 9, 9, 0, 1}, "data"...), 0, false},
		"request":                 {append([]byte{8}, bare[1:]...), 0, false},
		"code":                    {append([]byte{0, 1}, bare[2:]...), 0, false},
		"short":                   {bare[:7], 0, false}, "nothing": {nil, 0, false}, "header only": {behind[:20], 0, false},
		"long header": {append([]byte{0x4f}, behind[1:]...), 0, false},
	} {
		data, err := parseEcho(c.b, c.reply, sequence)
		assert.Equal(t, c.ok, err == nil, name)
		if c.ok {
			assert.Equal(t, "data", string(data), name)
		}
	}
}
