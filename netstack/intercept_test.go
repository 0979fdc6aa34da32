package netstack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/secrets"
	mitm "github.com/gomsb/gomsb/netstack/tls"
)

// secured is a sandbox whose TLS is intercepted.
type secured struct {
	*guest
	names *policy.Index
	ours  *x509.CertPool // what the guest trusts: our authority
	world *mitm.Interceptor
	log   *lines
	conns []net.Conn // that were opened
}

func authority(t testing.TB) (*mitm.Authority, *x509.CertPool) {
	t.Helper()
	a, err := mitm.PersistedAuthority(t.Context(), t.TempDir())
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(a.PEM()))
	return a, pool
}

// newSecured starts a sandbox whose connections to port 443 are intercepted, in a world
// that the gateway trusts.
func newSecured(t testing.TB, p *policy.Policy, change func(*Config, *mitm.Config)) *secured {
	t.Helper()
	abroad, _ := authority(t)
	file := filepath.Join(t.TempDir(), "world.pem")
	require.NoError(t, os.WriteFile(file, abroad.PEM(), 0o600))
	s := &secured{log: &lines{}}
	var err error
	s.world, err = mitm.New(mitm.Config{Authority: abroad})
	require.NoError(t, err)
	var mine *mitm.Authority
	mine, s.ours = authority(t)
	s.guest = newGuest(t, p, func(c *Config) {
		s.names = c.Names
		c.Logger = s.log.logger()
		m := mitm.Config{Authority: mine, Ports: []uint16{443}, Bypass: []string{"*.bank.example"}, Trust: mitm.Trust{Files: []string{file}}}
		if change != nil {
			change(c, &m)
		}
		c.TLS, err = mitm.New(m)
		require.NoError(t, err)
	})
	return s
}

// site serves TLS with a certificate of the world's on an address.
func (s *secured) site(at netip.AddrPort, handle func(*tls.Conn)) {
	s.tcpWorld(at, func(c *net.TCPConn) {
		tc := tls.Server(c, s.world.Guest())
		if tc.Handshake() == nil {
			handle(tc)
		}
	})
}

// open dials and asks for a name, with the guest's trust.
func (s *secured) open(to netip.AddrPort, name string, change func(*tls.Config)) (*tls.Conn, error) {
	s.t.Helper()
	c := &tls.Config{ServerName: name, RootCAs: s.ours, NextProtos: []string{"h2", "http/1.1"}}
	if change != nil {
		change(c)
	}
	tc := tls.Client(s.mustDial(to), c)
	return tc, tc.Handshake()
}

func (s *secured) mustOpen(to netip.AddrPort, name string) *tls.Conn {
	s.t.Helper()
	c, err := s.open(to, name, nil)
	require.NoError(s.t, err)
	return c
}

func tlsEchoes(c *tls.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

func (s *secured) mustDial(to netip.AddrPort) *gonet.TCPConn {
	s.t.Helper()
	c := s.guest.mustDial(to)
	s.conns = append(s.conns, c)
	return c
}

// idle has the guest close what it opened, and waits until the gateway has nothing of it
// any more.
func (s *secured) idle() {
	s.t.Helper()
	for _, c := range s.conns {
		_ = c.Close()
	}
	assert.Eventually(s.t, func() bool { return s.tcpCount.Load() == 0 }, watchdog, time.Millisecond)
}

func TestInterception(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	asked := make(chan tls.ConnectionState, 1)
	s.site(at(world4, 443), func(c *tls.Conn) {
		asked <- c.ConnectionState()
		tlsEchoes(c)
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c, err := s.open(at(world4, 443), "WWW.Example.com", func(c *tls.Config) { c.MaxVersion = version })
		require.NoError(t, err)
		state := c.ConnectionState()
		assert.Equal(t, version, state.Version)
		assert.Empty(t, state.NegotiatedProtocol)
		assert.Equal(t, "microsandbox CA", state.PeerCertificates[0].Issuer.CommonName)
		assert.Len(t, state.PeerCertificates, 2)
		exchange(t, c, "hello")
		up := <-asked
		assert.Equal(t, "www.example.com", up.ServerName)
		assert.Empty(t, up.NegotiatedProtocol)
	}
	_, err := s.open(at(world4, 443), "www.example.com", func(c *tls.Config) { c.RootCAs = x509.NewCertPool() })
	require.Error(t, err, "who does not trust us")
	assert.Eventually(t, func() bool { return strings.Contains(s.log.String(), "do not intercept it") }, watchdog, time.Millisecond)
	s.idle()
}

// TestInterceptedHTTP: what an ordinary client and server do.
func TestInterceptedHTTP(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(tls.NewListener(l, s.guestOfWorld())) }()
	t.Cleanup(func() { _ = server.Close() })
	s.guest.world.set("tcp", at(world4, 443).String(), l.Addr().String())
	tr := &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			c, err := s.open(at(world4, 443), "www.example.com", func(c *tls.Config) { c.NextProtos = nil })
			return c, err
		},
	}
	defer tr.CloseIdleConnections()
	for range 3 {
		r, err := (&http.Client{Transport: tr}).Post("https://www.example.com/", "text/plain", bytes.NewReader(body))
		require.NoError(t, err)
		got, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		assert.True(t, bytes.Equal(body, got))
	}
}

func (s *secured) guestOfWorld() *tls.Config { return s.world.Guest() }

// TestServerEndsFirst: the guest goes on after the server's close_notify.
func TestServerEndsFirst(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	got := make(chan string, 1)
	s.site(at(world4, 443), func(c *tls.Conn) {
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	})
	c := s.mustOpen(at(world4, 443), "www.example.com")
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "bye", string(b))
	_, err = io.WriteString(c, "the guest goes on")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	assert.Equal(t, "the guest goes on", <-got)
	s.idle()
}

// recorded notes what it reads.
type recorded struct {
	net.Conn
	b bytes.Buffer
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.b.Write(p[:n])
	return n, err
}

// alerts counts the records of TLS 1.2 that are alerts.
func (r *recorded) alerts() (n int) {
	for b := r.b.Bytes(); len(b) >= 5; b = b[5+binary.BigEndian.Uint16(b[3:]):] {
		if b[0] == 21 {
			n++
		}
	}
	return n
}

// TestTruncation: a guest can tell an answer that was cut from one that is complete.
func TestTruncation(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	s.site(at(world4, 443), func(c *tls.Conn) {
		b := make([]byte, 1)
		_, _ = io.ReadFull(c, b)
		_, _ = io.WriteString(c, "answer")
		if b[0] == 'c' { // complete
			_ = c.CloseWrite()
		}
		_ = c.NetConn().(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	for how, alerts := range map[string]int{"complete": 1, "truncated": 0} {
		r := &recorded{Conn: s.mustDial(at(world4, 443))}
		c := tls.Client(r, &tls.Config{ServerName: "www.example.com", RootCAs: s.ours, MaxVersion: tls.VersionTLS12})
		_, err := io.WriteString(c, how[:1])
		require.NoError(t, err)
		b, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Equal(t, "answer", string(b))
		assert.Equal(t, alerts, r.alerts(), how)
		_ = c.Close()
	}
	s.idle()
}

// slow is a connection whose deadlines are noted.
type slow struct {
	net.Conn
	deadlines int
}

func (s *slow) SetWriteDeadline(time.Time) error { s.deadlines++; return nil }

// TestTruncatedUpload: so can a server with what the guest sends.
func TestTruncatedUpload(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	got := make(chan int, 1)
	s.tcpWorld(at(world4, 443), func(c *net.TCPConn) {
		r := &recorded{Conn: c}
		cfg := s.world.Guest().Clone()
		cfg.MaxVersion = tls.VersionTLS12
		_, err := io.Copy(io.Discard, tls.Server(r, cfg))
		assert.NoError(t, err)
		got <- r.alerts()
	})
	for _, complete := range []bool{true, false} {
		c := s.mustOpen(at(world4, 443), "www.example.com")
		_, err := io.WriteString(c, "question")
		require.NoError(t, err)
		want := 0
		if complete {
			require.NoError(t, c.CloseWrite())
			want = 1
		}
		require.NoError(t, c.NetConn().(*gonet.TCPConn).CloseWrite())
		assert.Equal(t, want, <-got, "complete: %v", complete)
	}
	s.idle()
}

// TestCloseNotifyWaits: a server may take as long for the end of an upload as for the rest
// of it.
func TestCloseNotifyWaits(t *testing.T) {
	t.Parallel()
	abroad, _ := authority(t)
	world, err := mitm.New(mitm.Config{Authority: abroad, Trust: mitm.Trust{NoVerify: true}})
	require.NoError(t, err)
	host, far := net.Pipe()
	defer func() { _ = far.Close() }()
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(tls.Server(far, world.Guest()))
		ended <- err
	}()
	under := &slow{Conn: host}
	w := &hostWire{Conn: under}
	c := sealed{tls.Client(w, world.Upstream("www.example.com")), w}
	require.NoError(t, c.HandshakeContext(t.Context()))
	require.NoError(t, c.finish(true))
	require.NoError(t, <-ended)
	assert.Zero(t, under.deadlines, "of crypto/tls's own")
}

// TestNothingToIntercept: what does not name its server is closed, in good order.
func TestNothingToIntercept(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	s.site(at(world4, 443), tlsEchoes)
	c := s.mustDial(at(world4, 443))
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
	require.NoError(t, err)
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Empty(t, b)
	for _, name := range []string{"", "not a name", "-.example"} {
		_, err = s.open(at(world4, 443), name, func(c *tls.Config) { c.InsecureSkipVerify = true })
		assert.ErrorIs(t, err, io.EOF, name)
	}
	c = s.mustDial(at(world4, 443))
	require.NoError(t, c.CloseWrite())
	b, err = io.ReadAll(c)
	require.NoError(t, err)
	assert.Empty(t, b)
	_, err = s.open(at(world4, 443), "no+leaf.example", func(c *tls.Config) { c.InsecureSkipVerify = true })
	assert.Error(t, err)
	s.mustOpen(at(world4, 443), "www.example.com")
}

// TestInterceptedNamesDecide: the policy is asked before anything is dialled.
func TestInterceptedNamesDecide(t *testing.T) {
	t.Parallel()
	var dialled atomic.Int64
	s := newSecured(t, rules(t, "deny@blocked.example,deny@*.ads.example,allow@good.example,allow@*.bank.example"), func(c *Config, _ *mitm.Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, to string) (net.Conn, error) {
			dialled.Add(1)
			return dial(ctx, network, to)
		}
	})
	s.names.Set("good.example", false, []netip.Addr{world4}, time.Hour)
	s.names.Set("bank.example", false, []netip.Addr{world4}, time.Hour)
	s.site(at(world4, 443), tlsEchoes)
	exchange(t, s.mustOpen(at(world4, 443), "good.example"), "x")
	for _, name := range []string{"blocked.example", "www.ads.example", "other.example"} {
		_, err := s.open(at(world4, 443), name, nil)
		assert.ErrorIs(t, err, io.EOF, name)
	}
	assert.Contains(t, s.log.String(), "blocked.example")
	_, err := s.dial(at(netip.MustParseAddr("93.184.216.35"), 443))
	assert.ErrorContains(t, err, "refused", "no name leads there")
	_, err = s.dial(at(netip.MustParseAddr("10.1.1.1"), 443))
	assert.ErrorContains(t, err, "refused")
	s.idle()
	assert.EqualValues(t, 1, dialled.Load(), "what the policy allows, and nothing else")
}

// TestBypass: the connection is the server's own.
func TestBypass(t *testing.T) {
	t.Parallel()
	s := newSecured(t, rules(t, "deny@no.bank.example,allow@public"), nil)
	s.site(at(world4, 443), tlsEchoes)
	c, err := s.open(at(world4, 443), "www.Bank.example", func(c *tls.Config) { c.InsecureSkipVerify = true })
	require.NoError(t, err)
	require.Error(t, func() error {
		_, err := c.ConnectionState().PeerCertificates[0].Verify(x509.VerifyOptions{Roots: s.ours})
		return err
	}())
	exchange(t, c, "untouched")
	_, err = s.open(at(world4, 443), "no.bank.example", nil)
	assert.ErrorIs(t, err, io.EOF)
	_, err = s.open(at(world6, 443), "bank.example", nil)
	assert.ErrorContains(t, err, "reset", "nobody answers")
	s.idle()
}

// TestUpstreamFails: the guest's connection is reset.
func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	no := false
	s := newSecured(t, policy.Default(), func(_ *Config, m *mitm.Config) {
		m.Trust.Scoped = []mitm.ScopedTrust{{Pattern: "trusting.example", Verify: &no}}
	})
	stranger, _ := authority(t)
	other, err := mitm.New(mitm.Config{Authority: stranger})
	require.NoError(t, err)
	s.tcpWorld(at(world4, 443), func(c *net.TCPConn) {
		tc := tls.Server(c, other.Guest())
		if tc.Handshake() == nil {
			tlsEchoes(tc)
		}
	})
	fails := func(to netip.AddrPort) {
		c, err := s.open(to, "www.example.com", nil)
		require.NoError(t, err, "the guest's own handshake succeeds")
		_, err = io.ReadAll(c)
		require.ErrorContains(t, err, "reset")
	}
	fails(at(world4, 443))
	assert.Contains(t, s.log.String(), "unknown authority")
	fails(at(world6, 443))
	exchange(t, s.mustOpen(at(world4, 443), "trusting.example"), "whoever it is")

	here := at(netip.MustParseAddr("93.184.216.36"), 443)
	s.tcpWorld(here, func(c *net.TCPConn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); _, _ = io.Copy(io.Discard, c) })
	fails(here)
	s.idle()
}

// shouting is a rewriter that makes capitals of what passes, holds back until a line ends,
// and refuses some.
type shouting struct{ held []byte }

var errShouting = &secrets.Violation{Action: secrets.KindLog, EnvVar: "KEY", Placeholder: "$MSB_KEY"}

func (r *shouting) Rewrite(dst, p []byte) ([]byte, error) {
	r.held = append(r.held, p...)
	if bytes.Contains(r.held, []byte("secret")) {
		return append(dst, "never sent"...), errShouting
	}
	i := bytes.LastIndexByte(r.held, '\n') + 1
	dst = append(dst, bytes.ToUpper(r.held[:i])...)
	r.held = append([]byte(nil), r.held[i:]...)
	return dst, nil
}

func (r *shouting) Close() {}

func (r *shouting) End(dst []byte) ([]byte, error) { return append(dst, bytes.ToUpper(r.held)...), nil }

func TestInterceptedSecrets(t *testing.T) {
	t.Parallel()
	var seen []secrets.Connection
	var mu sync.Mutex
	s := newSecured(t, policy.Default(), func(c *Config, _ *mitm.Config) {
		c.Secrets = func(c secrets.Connection) secrets.Rewriter {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, c)
			if c.Host == "nothing.example" {
				return nil
			}
			return &shouting{}
		}
	})
	got := make(chan string, 1)
	s.site(at(world4, 443), func(c *tls.Conn) {
		b, _ := io.ReadAll(c)
		_, _ = io.WriteString(c, "done")
		_ = c.CloseWrite()
		got <- string(b)
	})
	c := s.mustOpen(at(world4, 443), "www.example.com")
	for _, text := range []string{"a li", "ne\nand ", "the rest"} {
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
	}
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "done", string(b))
	assert.Equal(t, "A LINE\nAND THE REST", <-got)

	c = s.mustOpen(at(world4, 443), "nothing.example")
	_, err = io.WriteString(c, "as it is")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	_, err = io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "as it is", <-got)

	c = s.mustOpen(at(world4, 443), "www.example.com")
	_, err = io.WriteString(c, "fine\n")
	require.NoError(t, err)
	_, err = io.WriteString(c, "a secret\n")
	require.NoError(t, err)
	b, err = io.ReadAll(c)
	require.NoError(t, err, "FIN, not RST")
	assert.Empty(t, b)
	assert.NotContains(t, <-got, "sent")
	assert.Contains(t, s.log.String(), secrets.Message)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, secrets.Connection{Host: "www.example.com", Dst: at(world4, 443), Intercepted: true}, seen[0])
	s.idle()
}

func TestQUICIsBlocked(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	s.udpWorld(at(world4, 443))
	s.udpWorld(at(world4, 444))
	talk(t, s.udp(0, at(world4, 444)), []byte("not TLS's port"))
	c := s.udp(0, at(world4, 443))
	_, err := c.Write([]byte("QUIC"))
	require.NoError(t, err)
	nothing(t, c)

	s = newSecured(t, policy.Default(), func(_ *Config, m *mitm.Config) { m.AllowQUIC = true })
	s.udpWorld(at(world4, 443))
	talk(t, s.udp(0, at(world4, 443)), []byte("QUIC"))
}

// asked is a resolver that says how it was asked, after a while.
type asked struct{ hold chan struct{} }

func (a asked) Answer(_ context.Context, q []byte, w dns.Way) []byte {
	<-a.hold
	return []byte(string(q) + " " + string(w.Protocol) + " " + w.Resolver.String() + " " + w.Server)
}

// TestDNSOverTLS is U13 too: what is asked before the guest's end is answered.
func TestDNSOverTLS(t *testing.T) {
	t.Parallel()
	a := asked{make(chan struct{})}
	s := newSecured(t, policy.NoTraffic(), func(c *Config, _ *mitm.Config) { c.Resolver = a })
	for _, c := range []struct {
		to         netip.AddrPort
		name, want string
	}{
		{at(s.addrs.Gateway4, 853), "dns.example", "q tcp invalid IP dns.example"},
		{at(s.addrs.Gateway4, 853), "", "q tcp invalid IP 172.16.0.5"},
		{at(world4, 853), "DNS.Example", "q tcp 93.184.216.34 dns.example"},
		{at(world6, 853), "", "q tcp 2606:2800:220:1::34 2606:2800:220:1::34"},
	} {
		conn, err := s.open(c.to, c.name, func(t *tls.Config) {
			if c.name == "" {
				t.ServerName = c.to.Addr().String() // no name in the ClientHello
			}
		})
		require.NoError(t, err)
		_, err = conn.Write([]byte("\x00\x01q\x00\x00\x00\x01q"))
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		if a.hold != nil {
			close(a.hold)
			a.hold = nil
		}
		b, err := io.ReadAll(conn)
		require.NoError(t, err)
		one := append(binary.BigEndian.AppendUint16(nil, uint16(len(c.want))), c.want...)
		assert.Equal(t, string(bytes.Repeat(one, 2)), string(b))
	}
	c := s.mustDial(at(world4, 853))
	_, err := io.WriteString(c, "no TLS at all\r\n\r\n")
	require.NoError(t, err)
	_, _ = io.ReadAll(c)
	s.idle()
}

// TestDoTPortAmongIntercepted: then it is a port like others.
func TestDoTPortAmongIntercepted(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), func(_ *Config, m *mitm.Config) { m.Ports = []uint16{853, 53} })
	s.site(at(world4, 853), tlsEchoes)
	s.site(at(world4, 53), tlsEchoes)
	exchange(t, s.mustOpen(at(world4, 853), "www.example.com"), "not DNS")
	exchange(t, s.mustOpen(at(world4, 53), "www.example.com"), "not DNS")
}

// TestCloseEndsInterception in each of its stages.
func TestCloseEndsInterception(t *testing.T) {
	t.Parallel()
	dialled := make(chan struct{}, 1)
	s := newSecured(t, policy.Default(), func(c *Config, _ *mitm.Config) {
		dial := c.Dial
		c.Resolver = answers{}
		c.Dial = func(ctx context.Context, network, to string) (net.Conn, error) {
			if to == at(world6, 443).String() {
				dialled <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, to)
		}
	})
	s.site(at(world4, 443), func(c *tls.Conn) { _, _ = io.Copy(io.Discard, c) })
	silent := at(netip.MustParseAddr("93.184.216.36"), 443)
	s.tcpWorld(silent, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	s.tcpWorld(at(world4, 80), func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	s.mustDial(at(world4, 443)) // says nothing
	half := s.mustDial(at(world4, 443))
	_, err := half.Write([]byte{22, 3, 1, 1, 0, 1}) // half a ClientHello
	require.NoError(t, err)
	s.mustDial(at(world4, 853))
	s.mustDial(at(world4, 80))
	asking := s.mustDial(at(world4, 80))
	_, err = io.WriteString(asking, "CONNECT www.example.com:443 HTTP/1.1\r\n")
	require.NoError(t, err)
	s.mustOpen(at(world4, 443), "www.example.com")
	s.mustOpen(silent, "www.example.com")
	s.mustOpen(at(world6, 443), "www.example.com")
	<-dialled
	stuck := func(c *tls.Conn) {
		for err := error(nil); err == nil; _, err = c.Write(make([]byte, 1<<20)) {
			_ = c.SetWriteDeadline(time.Now().Add(quiet))
		}
	}
	deaf := at(netip.MustParseAddr("93.184.216.37"), 443)
	s.site(deaf, func(*tls.Conn) { <-t.Context().Done() })
	stuck(s.mustOpen(deaf, "www.example.com"))
	loud, full := at(netip.MustParseAddr("93.184.216.38"), 443), make(chan struct{})
	s.site(loud, func(c *tls.Conn) {
		stuck(c)
		close(full)
		<-t.Context().Done()
	})
	s.mustOpen(loud, "www.example.com")
	<-full
	require.EqualValues(t, 10, s.tcpCount.Load())
	s.mustClose()
}

// TestInterceptedBulk carries more than any buffer holds, both ways at once.
func TestInterceptedBulk(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	s.site(at(world4, 443), tlsEchoes)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	c := s.mustOpen(at(world4, 443), "www.example.com")
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Write(data)
		assert.NoError(t, err)
		assert.NoError(t, c.CloseWrite())
	})
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, b))
	wg.Wait()
	s.idle()
}

// proxy is an HTTP proxy at an address that answers requests for a tunnel with say and
// leads to where the world says.
func (s *secured) proxy(at netip.AddrPort, say func(*http.Request) string) {
	s.tcpWorld(at, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			answer := say(req)
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
			if !strings.Contains(answer, " 200 ") {
				continue
			}
			to, err := s.guest.world.dial(context.Background(), "tcp", req.Host)
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(to, r)
				_ = to.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(c, to)
			_ = to.Close()
			return
		}
	})
}

// through asks a proxy for a tunnel, in pieces, and returns the head of the answer.
func (s *secured) through(proxy netip.AddrPort, pieces ...string) (net.Conn, string) {
	s.t.Helper()
	c := s.mustDial(proxy)
	for _, p := range pieces {
		_, err := io.WriteString(c, p)
		require.NoError(s.t, err)
	}
	return c, head(c)
}

// head reads to an empty line, or the end.
func head(c net.Conn) string {
	var b []byte
	for one := make([]byte, 1); !bytes.HasSuffix(b, []byte("\r\n\r\n")); b = append(b, one...) {
		if _, err := io.ReadFull(c, one); err != nil {
			break
		}
	}
	return string(b)
}

const granted = "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"

func TestTunnels(t *testing.T) {
	t.Parallel()
	s := newSecured(t, rules(t, "deny@blocked.example,deny@198.18.0.1,allow@public,allow@198.18.0.0/15,allow@host"), nil)
	proxyAt := at(world4, 3128)
	s.proxy(proxyAt, func(r *http.Request) string {
		assert.NotContains(t, []string{"blocked.example:443", "198.18.0.1:443", "10.0.0.1:443"}, r.Host, "the policy denies it")
		return granted
	})
	s.guest.world.set("tcp", "www.example.com:443", server(t, "127.0.0.1:0", func(c *net.TCPConn) {
		tc := tls.Server(c, s.world.Guest())
		if tc.Handshake() == nil {
			tlsEchoes(tc)
		}
	}).String())
	for _, same := range []string{"WWW.example.com.:443", "blocked.example:443", "203.0.113.9:443", "[2001:db8::9]:443", dns.HostAlias + ":443"} {
		to, _ := s.guest.world.lookup("tcp", "www.example.com:443")
		s.guest.world.set("tcp", same, to)
	}
	s.guest.world.set("tcp", "www.example.com:22", server(t, "127.0.0.1:0", echoes).String())
	client := func(c net.Conn, name string) *tls.Conn {
		return tls.Client(c, &tls.Config{ServerName: name, RootCAs: s.ours})
	}
	for _, pieces := range [][]string{
		{"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n"},
		{"C", "ONN", "ECT WWW.example.com.:443 HTTP/1.0", "\r\n\r", "\n"},
		{"CONNECT " + dns.HostAlias + ":443 HTTP/1.1\r\n\r\n"},
	} {
		c, answer := s.through(proxyAt, pieces...)
		require.Equal(t, granted, answer)
		name := "www.example.com"
		if strings.Contains(pieces[0], dns.HostAlias) {
			name = dns.HostAlias
		}
		exchange(t, client(c, name), "in the tunnel")
	}
	for _, to := range []string{"203.0.113.9:443", "[2001:db8::9]:443"} {
		c, answer := s.through(proxyAt, "CONNECT "+to+" HTTP/1.1\r\n\r\n")
		require.Equal(t, granted, answer)
		exchange(t, client(c, "any.example"), "an address has any name")
	}

	c, _ := s.through(proxyAt, "CONNECT www.example.com:443 HTTP/1.1\r\n\r\n")
	assert.ErrorIs(t, client(c, "other.example").Handshake(), io.EOF, "another name")
	for _, to := range []string{"blocked.example", "198.18.0.1", "10.0.0.1"} {
		_, answer := s.through(proxyAt, "CONNECT "+to+":443 HTTP/1.1\r\n\r\n")
		assert.Empty(t, answer, "%s: policy", to)
	}
	c, _ = s.through(proxyAt, "CONNECT 203.0.113.9:443 HTTP/1.1\r\n\r\n")
	assert.ErrorIs(t, client(c, "blocked.example").Handshake(), io.EOF, "policy, by the name in the tunnel")
	c, answer := s.through(proxyAt, "CONNECT www.example.com:22 HTTP/1.1\r\n\r\n")
	assert.Equal(t, granted, answer)
	exchange(t, c.(interface {
		io.ReadWriter
		CloseWrite() error
	}), "SSH, as it is")
	s.idle()
}

// TestTunnelSeed: the ClientHello may follow the request at once.
func TestTunnelSeed(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	proxyAt := at(world4, 3128)
	s.proxy(proxyAt, func(*http.Request) string { return granted })
	s.site(at(netip.MustParseAddr("203.0.113.9"), 443), tlsEchoes)
	c := s.mustDial(proxyAt)
	eager := &eagerConn{Conn: c, request: []byte("CONNECT 203.0.113.9:443 HTTP/1.1\r\n\r\n")}
	tc := tls.Client(eager, &tls.Config{ServerName: "www.example.com", RootCAs: s.ours})
	_, err := io.WriteString(tc, "x")
	require.NoError(t, err)
	require.NoError(t, tc.CloseWrite())
	b, err := io.ReadAll(tc)
	require.NoError(t, err)
	assert.Equal(t, "x", string(b))
}

// eagerConn sends a request with the first bytes, and reads past the answer.
type eagerConn struct {
	net.Conn
	request []byte
	read    bool
}

func (e *eagerConn) Write(p []byte) (int, error) {
	_, err := e.Conn.Write(append(e.request, p...))
	e.request = nil
	return len(p), err
}

func (e *eagerConn) Read(p []byte) (int, error) {
	if !e.read {
		e.read = true
		if h := head(e.Conn); h != granted {
			return 0, errors.New(h)
		}
	}
	return e.Conn.Read(p)
}

// TestProxyRefuses: the guest learns why and may ask again on the same connection.
func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	proxyAt := at(world4, 3128)
	const refused = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nsorry"
	s.proxy(proxyAt, func(r *http.Request) string {
		if r.Header.Get("Proxy-Authorization") == "" {
			return refused
		}
		return granted
	})
	s.site(at(netip.MustParseAddr("203.0.113.9"), 443), tlsEchoes)
	c, _ := s.through(proxyAt, "CONNECT 203.0.113.9:443 HTTP/1.1\r\n\r\n")
	b := make([]byte, 5)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	assert.Equal(t, "sorry", string(b))
	_, err = io.WriteString(c, "CONNECT 203.0.113.9:443 HTTP/1.1\r\nProxy-Authorization: x\r\n\r\n")
	require.NoError(t, err)
	require.Equal(t, granted, head(c))
	exchange(t, tls.Client(c, &tls.Config{ServerName: "www.example.com", RootCAs: s.ours}), "now")
}

// TestTunnelsThatAreNone are closed.
func TestTunnelsThatAreNone(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), func(c *Config, _ *mitm.Config) {
		c.Secrets = func(c secrets.Connection) secrets.Rewriter {
			if c.Connect {
				return &shouting{}
			}
			return nil
		}
	})
	proxyAt := at(world4, 3128)
	reached := make(chan string, 100)
	s.proxy(proxyAt, func(r *http.Request) string {
		reached <- r.Host
		return map[string]string{
			"EARLY.EXAMPLE:443": granted + "early", "BAD.EXAMPLE:443": "HTTP/1.1 2000 OK\r\n\r\n", "JUNK.EXAMPLE:443": "SSH-2.0-x\r\n\r\n",
			"SOON.EXAMPLE:443": "HTTP/1.1 100 Continue\r\n\r\n", "LONG.EXAMPLE:443": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxConnectReply) + "\r\n\r\n",
		}[r.Host]
	})
	for request, asks := range map[string]bool{
		"CONNECT early.example:443 HTTP/1.1\r\n\r\n":                                               true,
		"CONNECT bad.example:443 HTTP/1.1\r\n\r\n":                                                 true,
		"CONNECT junk.example:443 HTTP/1.1\r\n\r\n":                                                true,
		"CONNECT soon.example:443 HTTP/1.1\r\n\r\n":                                                true,
		"CONNECT long.example:443 HTTP/1.1\r\n\r\n":                                                true,
		"CONNECT a.example:443\r\n\r\n":                                                            false,
		"CONNECT a.example HTTP/1.1\r\n\r\n":                                                       false,
		"connect :443 HTTP/1.1\r\n\r\n":                                                            false,
		"CONNECT a.example:443 HTTP/1.1\r\nX: secret\r\n\r\n":                                      false,
		"CONNECT a.example:443 HTTP/1.1\r\nX: " + strings.Repeat("x", maxConnectHead) + "\r\n\r\n": false,
		"CONNECT a.example:443 HTTP/1.1\n\nCONNECT b.example:443 HTTP/1.1\r\n\r\n":                 false,
	} {
		c, answer := s.through(proxyAt, request)
		assert.Empty(t, answer, "%.60q", request)
		_ = c.Close()
		s.idle()
		select {
		case host := <-reached:
			assert.True(t, asks, "%.60q reached the proxy as %s", request, host)
		default:
			assert.False(t, asks, "%.60q", request)
		}
	}
	assert.Contains(t, s.log.String(), secrets.Message)
}

// TestPlainBesideInterception: what asks for no tunnel is carried, whoever speaks first.
func TestPlainBesideInterception(t *testing.T) {
	t.Parallel()
	s := newSecured(t, policy.Default(), nil)
	s.tcpWorld(at(world4, 80), echoes)
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "C", "CONNECTED", "connection", "x"} {
		exchange(t, s.mustDial(at(world4, 80)), text)
	}
	s.tcpWorld(at(world4, 22), func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
		echoes(c)
	})
	c := s.mustDial(at(world4, 22))
	b := make([]byte, 11)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err, "the guest has said nothing yet")
	assert.Equal(t, "SSH-2.0-x\r\n", string(b))
	exchange(t, c, "CONNECTION")
	s.idle()
}

func TestParseConnect(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]tunnel{
		"CONNECT a.example:443 HTTP/1.1":          {host: "a.example", port: 443},
		"Connect A.Example.:8443 HTTP/1.0":        {host: "a.example", port: 8443},
		"CONNECT 1.2.3.4:1 HTTP/1.1":              {host: "1.2.3.4", addr: netip.MustParseAddr("1.2.3.4"), port: 1},
		"CONNECT [2001:db8::1]:443 HTTP/1.1":      {host: "2001:db8::1", addr: netip.MustParseAddr("2001:db8::1"), port: 443},
		"CONNECT [::ffff:1.2.3.4]:443 HTTP/1.1":   {host: "1.2.3.4", addr: netip.MustParseAddr("1.2.3.4"), port: 443},
		"CONNECT a.example:443 HTTP/1.1\r\nX: y":  {host: "a.example", port: 443},
		"CONNECT a_b.example:65535 HTTP/1.1\r\nX": {host: "a_b.example", port: 65535},
	} {
		got, err := parseConnect([]byte(line + "\r\n\r\n"))
		require.NoError(t, err, line)
		assert.Equal(t, want, got, line)
	}
	for _, line := range []string{
		"", "CONNECT", "CONNECT a.example HTTP/1.1", "CONNECT a.example:0 HTTP/1.1", "CONNECT a.example:65536 HTTP/1.1", "CONNECT a.example:+1 HTTP/1.1",
		"CONNECT :443 HTTP/1.1", "CONNECT 2001:db8::1:443 HTTP/1.1", "CONNECT [fe80::1%eth0]:443 HTTP/1.1", "CONNECT a.example:443 HTTP/1.1 x",
		"CONNECT  a.example:443 HTTP/1.1", "CONNECT a.example:443\tHTTP/1.1", "CONNECT u@a.example:443 HTTP/1.1", "CONNECT a.example:443 HTTP/2",
		"CONNECT a.example:443 HTTP/11.1", "CONNECT a.example:443 http/1.1", "CONNECT a.example:443 HTTP/1.1\nX: y", "CONNECT a.example:443 HTTP/1.1\r\nX: \x00",
		"CONNECT a.example:443 HTTP/1.1\r\nX: y\rZ: w", "CONNECT http://a.example:443 HTTP/1.1", "GET a.example:443 HTTP/1.1",
	} {
		_, err := parseConnect([]byte(line + "\r\n\r\n"))
		assert.Error(t, err, "%q", line)
	}
}

func FuzzParseConnect(f *testing.F) {
	f.Add([]byte("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	f.Add([]byte("connect [::1]:1 HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		r, err := parseConnect(head)
		if err != nil {
			return
		}
		assert.NotZero(t, r.port)
		if !r.addr.IsValid() {
			name, err := policy.Canonical(r.host)
			require.NoError(t, err)
			assert.Equal(t, name, r.host)
		}
	})
}
