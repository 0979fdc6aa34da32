package netstack

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/policy"
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// exchange writes and reads back through an echo, with a half-close.
func exchange(t testing.TB, c interface {
	io.ReadWriter
	CloseWrite() error
}, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, text, string(b))
}

func TestGuestConnects(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	for _, a := range []netip.Addr{world4, world6} {
		g.tcpWorld(at(a, 80), echoes)
		exchange(t, g.mustDial(at(a, 80)), "hello, "+a.String())
	}
}

// dialFrom opens a TCP connection in the guest from a port of its choice, once the guest's own
// stack gives it.
func (g *guest) dialFrom(port uint16, to netip.AddrPort, within time.Duration) (c *gonet.TCPConn, err error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	from := full(at(g.addrs.guestOf(to.Addr()), port))
	require.Eventually(g.t, func() bool {
		c, err = gonet.DialTCPWithBind(ctx, g.stack, from, full(to), protocolOf(to.Addr()))
		return err == nil || !strings.Contains(err.Error(), "port is in use")
	}, watchdog, time.Millisecond)
	return c, err
}

// remembering is a guest whose gateway never forgets a connection in TIME-WAIT by itself.
func remembering(t *testing.T, change func(*Config)) *guest {
	t.Helper()
	g := newGuest(t, policy.Default(), change)
	forever := tcpip.TCPTimeWaitTimeoutOption(time.Hour)
	require.Nil(t, g.Gateway.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &forever))
	return g
}

// TestGuestReusesAPort: a connection that the other side ended first is no obstacle to the
// next one from the same port, however long the gateway remembers it.
func TestGuestReusesAPort(t *testing.T) {
	t.Parallel()
	g := remembering(t, nil)
	for _, a := range []netip.Addr{world4, world6} {
		to := at(a, 80)
		g.tcpWorld(to, func(c *net.TCPConn) { _, _ = io.WriteString(c, "bye") })
		for range 3 {
			c, err := g.dialFrom(4321, to, watchdog)
			require.NoError(t, err)
			b, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, "bye", string(b))
			require.NoError(t, c.Close())
			assert.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond, "the gateway has seen the end of it")
		}
	}
}

// stalled is a connection to a server that takes nothing until it may.
type stalled struct {
	net.Conn
	may <-chan struct{}
}

func (s stalled) CloseWrite() error { return s.Conn.(*net.TCPConn).CloseWrite() }

func (s stalled) Write(p []byte) (int, error) {
	<-s.may
	return s.Conn.Write(p)
}

// TestGuestReusesAPortTooEarly: what the guest sent before it closed a connection is not lost
// because it opens another one.
func TestGuestReusesAPortTooEarly(t *testing.T) {
	t.Parallel()
	may := make(chan struct{})
	var g *guest
	g = remembering(t, func(cfg *Config) {
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := g.world.dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return stalled{c, may}, nil
		}
	})
	release := sync.OnceFunc(func() { close(may) })
	t.Cleanup(release)
	got := make(chan []byte, 2)
	to := at(world4, 80)
	g.tcpWorld(to, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- b
	})
	c, err := g.dialFrom(4321, to, watchdog)
	require.NoError(t, err)
	_, err = io.ReadAll(c)
	require.NoError(t, err)
	said := bytes.Repeat([]byte("said "), 3*bufferSize/10) // more than is read at once
	_, err = c.Write(said)
	require.NoError(t, err)
	require.NoError(t, c.Close())

	if c, err := g.dialFrom(4321, to, 300*time.Millisecond); !assert.Error(t, err, "the first one is not over") {
		require.NoError(t, c.Close())
	}
	release()
	assert.Equal(t, said, <-got)
	assert.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
	c, err = g.dialFrom(4321, to, watchdog)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	assert.Empty(t, <-got)
}

// TestGuestIsRefused: a guest never connects to where nobody answers, nor to where it may
// not.
func TestGuestIsRefused(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	closed := server(t, "127.0.0.1:0", echoes)
	g.world.set("tcp", at(world4, 81).String(), "127.0.0.1:1")
	g.tcpWorld(at(world4, 853), echoes)
	g.tcpWorld(at(netip.MustParseAddr("169.254.169.254"), 80), echoes)
	g.tcpWorld(at(netip.MustParseAddr("10.0.0.5"), 80), echoes)
	for name, to := range map[string]netip.AddrPort{
		"nobody listens":      at(world4, 81),
		"no way":              at(world6, 81),
		"DNS over TLS":        at(world4, 853),
		"metadata":            at(netip.MustParseAddr("169.254.169.254"), 80),
		"private":             at(netip.MustParseAddr("10.0.0.5"), 80),
		"another sandbox":     at(netip.MustParseAddr("172.16.0.9"), 80),
		"host":                at(g.addrs.Gateway4, closed.Port()),
		"host by IPv6":        at(g.addrs.Gateway6, closed.Port()),
		"mapped metadata":     at(netip.MustParseAddr("::ffff:169.254.169.254"), 80),
		"NAT64 of a private":  at(netip.MustParseAddr("64:ff9b::10.0.0.5"), 80),
		"link-local":          at(netip.MustParseAddr("169.254.1.1"), 80),
		"unspecified network": at(netip.MustParseAddr("0.1.2.3"), 80),
	} {
		_, err := g.dial(to)
		assert.ErrorContains(t, err, "refused", name)
	}
	assert.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
}

// TestHostLoopbackThroughTheGateway is F3.
func TestHostLoopbackThroughTheGateway(t *testing.T) {
	t.Parallel()
	g := newGuest(t, rules(t, "allow@host"), nil)
	here := server(t, "127.0.0.1:0", echoes)
	exchange(t, g.mustDial(at(g.addrs.Gateway4, here.Port())), "IPv4")
	exchange(t, g.mustDial(at(g.addrs.Gateway6, here.Port())), "IPv6 falls back")
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		require.NoError(t, l.Close())
		six := server(t, "[::1]:0", echoes)
		exchange(t, g.mustDial(at(g.addrs.Gateway6, six.Port())), "IPv6")
		exchange(t, g.mustDial(at(g.addrs.Gateway4, six.Port())), "IPv4 falls back")
	}
}

// TestHalfClose is F4, as are the tests up to TestShortConnections.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) { // FIN first, then it reads to the end
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		assert.Equal(t, "the guest goes on", string(b))
	})
	c := g.mustDial(at(world4, 80))
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "bye", string(b))
	_, err = io.WriteString(c, "the guest goes on")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	assert.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
}

func TestReset(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	seen := make(chan error, 1)
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) {
		b := make([]byte, 1)
		_, err := io.ReadFull(c, b)
		if err == nil && b[0] == 'r' {
			_ = c.SetLinger(0)
			return
		}
		if err == nil { // else the guest gave up before it was connected
			_, err = c.Read(b)
		}
		seen <- err
	})
	c := g.mustDial(at(world4, 80))
	_, err := io.WriteString(c, "r")
	require.NoError(t, err)
	_, err = io.ReadAll(c)
	assert.ErrorContains(t, err, "reset", "of the host's")

	ep := endpointOf(t, g, at(world4, 80))
	_, e := ep.Write(bytes.NewReader([]byte("x")), writeOptions)
	require.Nil(t, e)
	ep.Abort()
	select {
	case err := <-seen:
		assert.True(t, errors.Is(err, syscall.ECONNRESET), "of the guest's: %v", err)
	case <-time.After(watchdog):
		assert.Fail(t, "the server learns of it")
	}
	assert.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), func(c *Config) { c.MaxConnections = 3 })
	g.tcpWorld(at(world4, 80), echoes)
	for range 3 {
		g.mustDial(at(world4, 80))
	}
	_, err := g.dial(at(world4, 80))
	require.ErrorContains(t, err, "refused")
	assert.EqualValues(t, 3, g.tcpCount.Load())
}

// TestUndelivered: what the guest has not taken yet counts, although both ends are closed;
// else a guest could have the host remember any number of such connections.
func TestUndelivered(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	served := make(chan struct{})
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) {
		defer close(served)
		_, _ = io.Copy(io.Discard, c)
		_, _ = c.Write(make([]byte, 100<<10))
	})
	ep := endpointOf(t, g, at(world4, 80))
	defer ep.Close()
	g.full.Store(true)
	require.Nil(t, ep.Shutdown(tcpip.ShutdownWrite))
	<-served
	assert.Never(t, func() bool { return g.tcpCount.Load() == 0 }, 5*quiet, time.Millisecond)
	g.full.Store(false)
	g.Ready()
	assert.Eventually(t, func() bool { return g.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
}

// TestGuestKeepsItsEndOpen: it does not keep the connection.
func TestGuestKeepsItsEndOpen(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	l := g.listen(80)
	c, err := g.connect(t.Context(), at(g.addrs.Guest4, 80))
	require.NoError(t, err)
	guest, err := l.Accept()
	require.NoError(t, err)
	defer func() { _ = guest.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.closeWithin(t.Context(), quiet)
	}()
	select {
	case <-done:
	case <-time.After(watchdog):
		require.Fail(t, "the connection is kept")
	}
	assert.Eventually(t, func() bool {
		_, err := guest.Write([]byte("x"))
		return err != nil
	}, watchdog, time.Millisecond, "the guest learns of it")
}

// TestShortConnections: a table that leaks would be full soon.
func TestShortConnections(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), func(c *Config) { c.MaxConnections = 8 })
	g.tcpWorld(at(world4, 80), echoes)
	for range 100 {
		c := g.mustDial(at(world4, 80))
		exchange(t, c, "x")
		require.NoError(t, c.Close())
		require.Eventually(t, func() bool { return g.tcpCount.Load() < 8 }, watchdog, time.Millisecond)
	}
}

func TestLimitsAreChecked(t *testing.T) {
	t.Parallel()
	a, err := Plan(0, Overrides{}, bothFamilies)
	require.NoError(t, err)
	e, err := policy.New(policy.Default(), nil)
	require.NoError(t, err)
	_, err = New(Config{Addresses: a, Policy: e, Names: policy.NewIndex(nil), MaxConnections: 4097})
	assert.ErrorIs(t, err, ErrConfig)
	assert.ErrorContains(t, err, "exceeds hard limit 4096")
	_, err = New(Config{Addresses: a})
	assert.ErrorIs(t, err, ErrConfig)
}

// TestNamesDecide: the rule is about a name, so the connection is accepted before it is
// decided.
func TestNamesDecide(t *testing.T) {
	t.Parallel()
	var names *policy.Index
	g := newGuest(t, rules(t, "deny@blocked.example,allow@*.good.example:tcp:443"), func(c *Config) { names = c.Names })
	names.Set("www.good.example", false, []netip.Addr{world4}, time.Hour)
	names.Set("blocked.example", false, []netip.Addr{world4}, time.Hour)
	got := make(chan string, 1)
	g.tcpWorld(at(world4, 443), func(c *net.TCPConn) {
		_ = tls.Server(c, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			got <- h.ServerName
			return nil, errors.New("enough")
		}}).Handshake()
	})
	for name, want := range map[string]bool{"www.good.example": true, "api.good.example": true, "blocked.example": false, "other.example": false} {
		c := g.mustDial(at(world4, 443))
		err := tls.Client(c, &tls.Config{ServerName: name}).Handshake()
		require.Error(t, err)
		select {
		case n := <-got:
			assert.Equal(t, name, n)
			assert.True(t, want, "%s is let out", name)
		default:
			assert.False(t, want, "%s is not let out: %v", name, err)
		}
	}
	_, err := g.dial(at(netip.MustParseAddr("93.184.216.35"), 443))
	assert.ErrorContains(t, err, "refused", "no name leads there")
	_, err = g.dial(at(world4, 80))
	assert.ErrorContains(t, err, "refused", "another port")
}

// TestNoTLS: what is no TLS is judged by the index.
func TestNoTLS(t *testing.T) {
	t.Parallel()
	var names *policy.Index
	g := newGuest(t, rules(t, "allow@good.example"), func(c *Config) { names = c.Names })
	names.Set("good.example", false, []netip.Addr{world4}, time.Hour)
	g.tcpWorld(at(world4, 80), echoes)
	exchange(t, g.mustDial(at(world4, 80)), "GET / HTTP/1.0\r\n\r\n")
}

// TestBulk carries more than any buffer holds both ways at once, while the guest's card is
// full now and then.
func TestBulk(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	g.tcpWorld(at(world4, 80), echoes)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
			}
			g.full.Store(true)
			time.Sleep(time.Millisecond)
			g.full.Store(false)
			g.Ready()
		}
	})
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	c := g.mustDial(at(world4, 80))
	wg.Go(func() {
		_, err := c.Write(data)
		assert.NoError(t, err)
		assert.NoError(t, c.CloseWrite())
	})
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, b))
	close(stop)
	wg.Wait()
}

// TestCloseEndsEverything while a guest neither completes a handshake nor reads.
func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 8<<20))
	})
	g.mustDial(at(world4, 80))
	g.full.Store(true) // from here on the guest hears nothing
	g.Transmit(Offload{}, [][]byte{syn(&g.addrs, at(world4, 80), 4000)})
	require.Eventually(t, func() bool { return g.tcpCount.Load() == 2 }, watchdog, time.Millisecond)
	g.mustClose()
	g.mustClose()
	g.Transmit(Offload{}, [][]byte{syn(&g.addrs, at(world4, 80), 4001)})
}

// TestCloseMeetsAHandshake: the host's connection is there just when the gateway ends, and
// the guest never answers.
func TestCloseMeetsAHandshake(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), func(c *Config) {
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			time.Sleep(30 * time.Millisecond) // most of Close is over
			host, other := net.Pipe()
			t.Cleanup(func() { _ = other.Close() })
			return host, nil
		}
	})
	g.full.Store(true)
	g.Transmit(Offload{}, [][]byte{syn(&g.addrs, at(world4, 80), 4000)})
	require.Eventually(t, func() bool { return g.tcpCount.Load() == 1 }, watchdog, time.Millisecond)
	g.mustClose()
}

// TestSlowDialIsCancelled: a guest that gives up does not hold a place for ever, nor does
// a gateway that is closed.
func TestSlowDialIsCancelled(t *testing.T) {
	t.Parallel()
	cancelled := make(chan struct{})
	g := newGuest(t, policy.Default(), func(c *Config) {
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			close(cancelled)
			return nil, ctx.Err()
		}
	})
	g.Transmit(Offload{}, [][]byte{syn(&g.addrs, at(world4, 80), 4000)})
	require.Eventually(t, func() bool { return g.tcpCount.Load() == 1 }, watchdog, time.Millisecond)
	g.Gateway.Close()
	<-cancelled
}
