package netstack

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
)

// gauge counts what is under way.
type gauge struct{ now, most atomic.Int64 }

func (g *gauge) begin() {
	n := g.now.Add(1)
	for {
		most := g.most.Load()
		if n <= most || g.most.CompareAndSwap(most, n) {
			return
		}
	}
}

func (g *gauge) end() { g.now.Add(-1) }

// hole is an Internet that answers nothing until it is opened.
type hole struct {
	gauge
	open chan struct{}
}

// wait is a question to it.
func (h *hole) wait(ctx context.Context) {
	h.begin()
	defer h.end()
	select {
	case <-h.open:
	case <-ctx.Done():
	}
}

func (h *hole) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if network[:3] == "udp" {
		return h.datagrams(ctx)
	}
	h.wait(ctx)
	return nil, syscall.ECONNREFUSED
}

func (h *hole) ping(ctx context.Context, _ netip.Addr, _ []byte) ([]byte, error) {
	h.wait(ctx)
	return nil, errNoEcho
}

func (h *hole) Answer(ctx context.Context, _ []byte, _ dns.Way) []byte {
	h.wait(ctx)
	return nil
}

// counted is a socket that is counted until it is closed.
type counted struct {
	net.Conn
	of     *gauge
	closed atomic.Bool
}

func (h *hole) datagrams(ctx context.Context) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "udp4", "127.0.0.1:9")
	if err != nil {
		return nil, err
	}
	h.begin()
	return &counted{Conn: c, of: &h.gauge}, nil
}

func (c *counted) Close() error {
	if !c.closed.Swap(true) {
		c.of.end()
	}
	return c.Conn.Close()
}

func (h *hole) heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFloods: a guest that sends without end has a bounded number of things under way, and
// of bytes; it is served when it has calmed down.
func TestFloods(t *testing.T) {
	const times = 5000
	a, err := Plan(1, Overrides{}, bothFamilies)
	require.NoError(t, err)
	numbered := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{93, 184, byte(i >> 8), byte(i)}), uint16(1000+i%50000))
	}
	message := func(i int) []byte { return binary.BigEndian.AppendUint32(make([]byte, 0, 1000), uint32(i))[:1000] }
	for _, f := range []struct {
		name  string
		most  int64 // under way
		frame func(i int) []byte
	}{
		{"connections", DefaultConnections, func(i int) []byte { return syn(&a, numbered(i), uint16(1+i%60000)) }},
		{"datagrams", 4 * maxSessions, func(i int) []byte {
			return ether(&a, etherIPv4, ip4(&a, numbered(i).Addr(), protoUDP, datagram(7, numbered(i).Port(), message(i))))
		}},
		{"pings", maxEchoes, func(i int) []byte {
			return ether(&a, etherIPv4, ip4(&a, numbered(i).Addr(), protoICMPv4, append([]byte{echoRequest4, 0, 0, 0}, message(i)...)))
		}},
		{"pings of the gateway", 0, func(i int) []byte {
			return ether(&a, etherIPv4, ip4(&a, a.Gateway4, protoICMPv4, append([]byte{echoRequest4, 0, 0, 0}, message(i)...)))
		}},
		{"questions about names", maxQueries, func(i int) []byte {
			return ether(&a, etherIPv4, ip4(&a, a.Gateway4, protoUDP, datagram(7, dnsPort, message(i))))
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			h := &hole{open: make(chan struct{})}
			g := newGuest(t, policy.AllTraffic(), func(c *Config) { c.Dial, c.Ping, c.Resolver = h.dial, h.ping, h })
			before := h.heap()
			for i := range times {
				g.Transmit(Offload{}, [][]byte{f.frame(i)})
			}
			assert.LessOrEqual(t, h.most.Load(), f.most)
			assert.Less(t, h.heap()-before, int64(32<<20))
			close(h.open)
			assert.Eventually(t, func() bool { return h.now.Load() <= maxSessions }, watchdog, time.Millisecond)
			_, ok := g.ping(g.addrs.Gateway4, "still there", watchdog)
			assert.True(t, ok)
		})
	}
}

// TestSmallWritesOfAGuestThatReadsNothing: what is remembered of each is more than its
// bytes, so that few may wait.
func TestSmallWritesOfAGuestThatReadsNothing(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.AllTraffic(), nil)
	l := g.listen(80)
	c, err := g.connect(t.Context(), netip.AddrPortFrom(g.addrs.Guest4, 80))
	require.NoError(t, err)
	defer c.abort()
	accepted, err := l.Accept()
	require.NoError(t, err)
	defer func() { _ = accepted.Close() }()
	g.full.Store(true) // it acknowledges nothing any more
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
	defer cancel()
	n := 0
	for err = nil; err == nil && n < 1<<18; n++ {
		err = c.write(ctx, []byte("x"))
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.LessOrEqual(t, n, minBuffer+maxSmall)
}
