package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/gomsb/gomsb/netstack/policy"
)

// narrow is a connection whose path has an MTU.
type narrow struct {
	net.Conn
	mtu   int
	heads int
	loose *atomic.Bool // fragments may be sent
	late  bool         // what does not fit is lost on its way, and heard of by the next read
	heard chan struct{}
}

func (n *narrow) MTU() int                 { return n.mtu }
func (n *narrow) Whole(whole bool) error   { n.loose.Store(!whole); return nil }
func (n *narrow) tooLong(data []byte) bool { return !n.loose.Load() && n.heads+len(data) > n.mtu }

func (n *narrow) Write(p []byte) (int, error) {
	switch {
	case n.tooLong(p) && n.late:
		n.heard <- struct{}{}
		return len(p), nil
	case n.tooLong(p):
		return 0, unix.EMSGSIZE
	}
	return n.Conn.Write(p)
}

func (n *narrow) Read(p []byte) (int, error) {
	if n.late {
		select {
		case <-n.heard:
			return 0, &net.OpError{Op: "read", Err: unix.EMSGSIZE}
		default:
		}
	}
	return n.Conn.Read(p)
}

// behindNarrow is a guest whose paths have an MTU.
func behindNarrow(t *testing.T, mtu int, late bool) *guest {
	t.Helper()
	var g *guest
	g = newGuest(t, policy.Default(), func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := g.world.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			heads := 28
			if netip.MustParseAddrPort(address).Addr().Is6() {
				heads = 48
			}
			return &narrow{Conn: conn, mtu: mtu, heads: heads, loose: new(atomic.Bool), late: late, heard: make(chan struct{}, 1)}, nil
		}
	})
	g.sniff()
	return g
}

// bigNews is the MTU in a message to the guest that its packet is too big, and the length
// of the packet that it quotes.
func bigNews(t *testing.T, f []byte) (mtu, quoted int, ok bool) {
	t.Helper()
	p := f[etherLen:]
	switch {
	case len(f) >= etherLen+56 && f[12] == 8 && p[9] == protoICMPv4 && p[20] == icmpUnreachable4 && p[21] == fragmentationNeeded4:
		assert.True(t, header.IPv4(p).IsChecksumValid())
		return int(binary.BigEndian.Uint16(p[26:])), int(binary.BigEndian.Uint16(p[30:])), true
	case len(f) >= etherLen+96 && f[12] == 0x86 && p[6] == protoICMPv6 && p[40] == packetTooBig6:
		return int(binary.BigEndian.Uint32(p[44:])), 40 + int(binary.BigEndian.Uint16(p[52:])), true
	}
	return 0, 0, false
}

// TestPathMTU is F5: the guest is told what fits, and loses nothing.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to        netip.Addr
		mtu, size int
	}{
		"F5": {world4, 1400, 1401}, "F5 IPv6": {world6, 1300, 1301}, "F5 as large as the guest's own MTU": {world4, 1280, 1500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := behindNarrow(t, c.mtu, false)
			g.udpWorld(at(c.to, 99))
			conn := g.udp(0, at(c.to, 99))
			data := bytes.Repeat([]byte("x"), c.size-headsOf(flow{peer: at(c.to, 99)}))
			talk(t, conn, data)
			f := g.hear(func(f []byte) bool { _, _, ok := bigNews(t, f); return ok })
			mtu, quoted, _ := bigNews(t, f)
			assert.Equal(t, c.mtu, mtu)
			assert.Equal(t, c.size, quoted, "larger than the MTU, as is the packet that the guest knows")
		})
	}
}

// TestPathMTUOfARouter: the way became narrow behind this machine; the flow goes on.
func TestPathMTUOfARouter(t *testing.T) {
	t.Parallel()
	g := behindNarrow(t, 1400, true)
	g.udpWorld(at(world4, 99))
	conn := g.udp(0, at(world4, 99))
	talk(t, conn, []byte("small"))
	_, err := conn.Write(make([]byte, 1450))
	require.NoError(t, err)
	_, err = conn.Write([]byte("what ends a read")) // which was waiting already
	require.NoError(t, err)
	f := g.hear(func(f []byte) bool { _, _, ok := bigNews(t, f); return ok })
	mtu, quoted, _ := bigNews(t, f)
	assert.Equal(t, []int{1400, 1478}, []int{mtu, quoted})
	g.Gateway.udp.mu.Lock()
	assert.Len(t, g.Gateway.udp.sessions, 1)
	g.Gateway.udp.mu.Unlock()
}

// TestNoPathMTU: nothing is said that a guest could not believe.
func TestNoPathMTU(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to        netip.Addr
		mtu, size int
	}{
		"nothing known":                       {world4, 0, 1000},
		"no path is that narrow":              {world4, 67, 1000},
		"F5 no path of IPv6 is that narrow":   {world6, 1279, 1400},
		"sent in fragments by the guest":      {world4, 1400, 4000},
		"IPv6 sent in fragments by the guest": {world6, 1400, 4000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := behindNarrow(t, c.mtu, false)
			g.udpWorld(at(c.to, 99))
			talk(t, g.udp(0, at(c.to, 99)), make([]byte, c.size))
			talk(t, g.udp(0, at(c.to, 99)), make([]byte, c.size))
			for len(g.raw) > 0 {
				_, _, told := bigNews(t, <-g.raw)
				assert.False(t, told)
			}
		})
	}
}

// TestPathIsAskedSeldom: datagrams of one kind after another change nothing of the socket.
func TestPathIsAskedSeldom(t *testing.T) {
	t.Parallel()
	var turns atomic.Int64
	var g *guest
	g = newGuest(t, policy.Default(), func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := g.world.dial(ctx, network, address)
			return &turning{&narrow{Conn: conn, mtu: 1500, heads: 28, loose: new(atomic.Bool)}, &turns}, err
		}
	})
	g.udpWorld(at(world4, 99))
	conn := g.udp(0, at(world4, 99))
	for _, c := range []struct{ size, turns int }{{100, 0}, {1472, 0}, {1473, 1}, {9000, 1}, {4000, 1}, {100, 2}, {100, 2}} {
		talk(t, conn, make([]byte, c.size))
		assert.EqualValues(t, c.turns, turns.Load(), "%d bytes", c.size)
	}
}

// turning counts how often it is told how to send.
type turning struct {
	*narrow
	turns *atomic.Int64
}

func (c *turning) Whole(whole bool) error {
	c.turns.Add(1)
	return c.narrow.Whole(whole)
}
