package netstack

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/proxy"
	"github.com/gomsb/gomsb/netstack/proxy/proxytest"
)

// lines is a log that tests read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// behindProxy is a guest whose network lies behind a proxy of some version.
func behindProxy(t *testing.T, v proxy.Version, p *policy.Policy, log *lines) (*guest, *proxytest.Server) {
	t.Helper()
	var g *guest
	s := &proxytest.Server{Lead: func(to string) (string, bool) {
		g.world.mu.Lock()
		defer g.world.mu.Unlock()
		at, ok := g.world.hosts[to]
		return at, ok
	}}
	require.NoError(t, s.Start())
	t.Cleanup(s.Close)
	way, err := proxy.New(proxy.Config{Version: v, Address: s.Addr()})
	require.NoError(t, err)
	g = newGuest(t, p, func(c *Config) {
		c.Proxy, c.Logger = way.DialContext, log.logger()
		c.Resolver = answers{}
	})
	return g, s
}

// TestProxy: what the policy lets out of the host goes through the proxy, and nothing else.
func TestProxy(t *testing.T) {
	t.Parallel()
	log := new(lines)
	g, s := behindProxy(t, proxy.SOCKS5, rules(t, "deny@93.184.216.34:tcp:81,allow@public,allow@host"), log)
	for _, a := range []netip.Addr{world4, world6} {
		g.tcpWorld(at(a, 80), echoes)
		exchange(t, g.mustDial(at(a, 80)), "hello, "+a.String())
		g.udpWorld(at(a, 99))
		talk(t, g.udp(0, at(a, 99)), []byte("a datagram to "+a.String()))
	}
	assert.Equal(t, []string{
		"tcp " + at(world4, 80).String(), "udp " + at(world4, 99).String(), "tcp " + at(world6, 80).String(), "udp " + at(world6, 99).String(),
	}, s.Asked())

	_, err := g.dial(at(world4, 81))
	assert.ErrorContains(t, err, "refused", "the policy decides first")
	_, err = g.dial(at(world4, 82))
	assert.ErrorContains(t, err, "refused", "where the proxy does not lead")
	host := server(t, "127.0.0.1:0", echoes)
	exchange(t, g.mustDial(at(g.addrs.Gateway4, host.Port())), "the host itself")
	_, ok := g.ping(world4, "ping", 200*time.Millisecond)
	assert.False(t, ok, "no proxy carries pings")
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "a ping is lost") }, watchdog, 5*time.Millisecond)
	asked := strings.Join(s.Asked(), ",")
	assert.NotContains(t, asked, ":81")
	assert.NotContains(t, asked, "127.0.0.1")
}

// TestSOCKS4Proxy carries TCP over IPv4; the rest is refused and said.
func TestSOCKS4Proxy(t *testing.T) {
	t.Parallel()
	log := new(lines)
	g, s := behindProxy(t, proxy.SOCKS4, policy.Default(), log)
	g.tcpWorld(at(world4, 80), echoes)
	exchange(t, g.mustDial(at(world4, 80)), "hello")
	_, err := g.dial(at(world6, 80))
	assert.ErrorContains(t, err, "refused")
	g.udpWorld(at(world4, 99))
	c := g.udp(0, at(world4, 99))
	_, err = c.Write([]byte("lost"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Count(log.String(), "SOCKS4 knows TCP over IPv4 alone") == 2 }, watchdog, 5*time.Millisecond)
	assert.Equal(t, []string{"tcp " + at(world4, 80).String()}, s.Asked())
}

// TestProxyIsDown: the guest is refused, and nothing goes around the proxy.
func TestProxyIsDown(t *testing.T) {
	t.Parallel()
	log := new(lines)
	g, s := behindProxy(t, proxy.SOCKS5, policy.Default(), log)
	g.tcpWorld(at(world4, 80), echoes)
	s.Close()
	_, err := g.dial(at(world4, 80))
	assert.ErrorContains(t, err, "refused")
	assert.Contains(t, log.String(), "the proxy opened no connection")
}

// TestFlowsOfASlowProxyAreBounded: a flow that gives way to others while the proxy has not
// answered yet keeps no connection to the proxy.
func TestFlowsOfASlowProxyAreBounded(t *testing.T) {
	t.Parallel()
	var waiting atomic.Int64
	g := newGuest(t, policy.Default(), func(c *Config) {
		c.Proxy = func(ctx context.Context, _, _ string) (net.Conn, error) {
			waiting.Add(1)
			defer waiting.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	for i := range 2 * maxSessions {
		_, err := g.udp(0, at(world4, uint16(2000+i))).Write([]byte("x"))
		require.NoError(t, err)
	}
	last := flow{peer: at(world4, uint16(2000+2*maxSessions-1))}
	require.Eventually(t, func() bool {
		g.Gateway.udp.mu.Lock()
		defer g.Gateway.udp.mu.Unlock()
		for f := range g.Gateway.udp.sessions {
			if f.peer == last.peer {
				return waiting.Load() == maxSessions
			}
		}
		return false
	}, watchdog, 5*time.Millisecond)
}
