package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/netstack/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const watchdog = 20 * time.Second

func socks(t *testing.T, s *proxytest.Server) *proxytest.Server {
	t.Helper()
	require.NoError(t, s.Start())
	t.Cleanup(s.Close)
	return s
}

// echo is a server of the network that sends back what it gets.
func echo(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 1<<16)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(b[:n], from)
			}
		}()
		t.Cleanup(func() { _ = c.Close(); <-done })
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func dial(t *testing.T, cfg Config, network, address string) (net.Conn, error) {
	t.Helper()
	p, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	c, err := p.DialContext(ctx, network, address)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(watchdog)))
	}
	return c, err
}

func TestDial(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version          Version
		user, name, word string
		network, address string
		asked            string
	}{
		"SOCKS4":               {version: SOCKS4, network: "tcp4", address: "192.0.2.1:80", asked: "tcp 192.0.2.1:80"},
		"SOCKS4 with a user":   {version: SOCKS4, user: "fred", network: "tcp", address: "192.0.2.1:80", asked: "tcp 192.0.2.1:80 fred"},
		"SOCKS5":               {version: SOCKS5, network: "tcp4", address: "192.0.2.1:80", asked: "tcp 192.0.2.1:80"},
		"SOCKS5 mapped":        {version: SOCKS5, network: "tcp", address: "[::ffff:192.0.2.1]:80", asked: "tcp 192.0.2.1:80"},
		"SOCKS5 IPv6":          {version: SOCKS5, network: "tcp6", address: "[2001:db8::1]:80", asked: "tcp [2001:db8::1]:80"},
		"SOCKS5 as a user":     {version: SOCKS5, name: "bob", word: "s3cret", network: "tcp", address: "192.0.2.1:80", asked: "tcp 192.0.2.1:80"},
		"SOCKS5 datagram":      {version: SOCKS5, network: "udp4", address: "192.0.2.1:99", asked: "udp 192.0.2.1:99"},
		"SOCKS5 IPv6 datagram": {version: SOCKS5, name: "bob", word: "s3cret", network: "udp6", address: "[2001:db8::1]:99", asked: "udp [2001:db8::1]:99"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := echo(t, c.network[:3])
			s := socks(t, &proxytest.Server{Username: c.name, Password: c.word, Lead: func(to string) (string, bool) { return far, to == c.asked }})
			conn, err := dial(t, Config{Version: c.version, Address: s.Addr(), UserID: c.user, Username: c.name, Password: c.word}, c.network, c.address)
			require.NoError(t, err)
			for _, text := range []string{"hello", strings.Repeat("x", 9000)} {
				_, err = io.WriteString(conn, text)
				require.NoError(t, err)
				b := make([]byte, len(text))
				_, err = io.ReadFull(conn, b)
				require.NoError(t, err)
				assert.Equal(t, text, string(b))
			}
			assert.Equal(t, c.asked, s.Asked()[0])
		})
	}
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	refuse := func(string) (string, bool) { return "", false }
	nowhere := func(string) (string, bool) { return "127.0.0.1:1", true }
	for name, c := range map[string]struct {
		server  *proxytest.Server
		cfg     Config
		network string
		address string
		err     error
		text    string
	}{
		"not allowed":            {&proxytest.Server{Lead: refuse}, Config{Version: SOCKS5}, "tcp", "192.0.2.1:80", ErrRefused, "not allowed"},
		"nobody listens":         {&proxytest.Server{Lead: nowhere}, Config{Version: SOCKS5}, "tcp", "192.0.2.1:80", ErrRefused, "connection refused"},
		"SOCKS4 not allowed":     {&proxytest.Server{Lead: refuse}, Config{Version: SOCKS4}, "tcp", "192.0.2.1:80", ErrRefused, "91"},
		"SOCKS4 datagram":        {&proxytest.Server{Lead: refuse}, Config{Version: SOCKS4}, "udp", "192.0.2.1:80", ErrUnreachable, "TCP over IPv4"},
		"SOCKS4 IPv6":            {&proxytest.Server{Lead: refuse}, Config{Version: SOCKS4}, "tcp", "[2001:db8::1]:80", ErrUnreachable, "TCP over IPv4"},
		"a name":                 {&proxytest.Server{Lead: refuse}, Config{Version: SOCKS5}, "tcp", "example.com:80", ErrUnreachable, "literal"},
		"password wanted":        {&proxytest.Server{Lead: refuse, Username: "a", Password: "b"}, Config{Version: SOCKS5}, "tcp", "192.0.2.1:80", ErrRefused, "wants a user name"},
		"wrong password":         {&proxytest.Server{Lead: refuse, Username: "a", Password: "b"}, Config{Version: SOCKS5, Username: "a", Password: "s3cret"}, "tcp", "192.0.2.1:80", ErrRefused, "wrong user"},
		"SOCKS4 of a SOCKS5":     {&proxytest.Server{Lead: refuse}, Config{Version: SOCKS4, UserID: "s3cret"}, "tcp", "192.0.2.1:80", ErrRefused, ""},
		"wrong password for UDP": {&proxytest.Server{Lead: refuse, Username: "a", Password: "b"}, Config{Version: SOCKS5, Username: "a", Password: "s3cret"}, "udp", "192.0.2.1:80", ErrRefused, "wrong user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := socks(t, c.server)
			c.cfg.Address = s.Addr()
			_, err := dial(t, c.cfg, c.network, c.address)
			require.ErrorIs(t, err, c.err)
			assert.ErrorContains(t, err, c.text)
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
}

// TestNonsense: a proxy that answers anything is refused, and so is one that answers
// nothing once the caller has waited enough.
func TestNonsense(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version Version
		answer  string
		err     error
	}{
		"HTTP":               {SOCKS5, "HTTP/1.1 400 Bad Request\r\n\r\n", ErrProtocol},
		"HTTP to 4":          {SOCKS4, "HTTP/1.1 400 Bad Request\r\n\r\n", ErrProtocol},
		"method not offered": {SOCKS5, "\x05\x02", ErrProtocol},
		"GSSAPI":             {SOCKS5, "\x05\x01", ErrProtocol},
		"closed":             {SOCKS5, "", ErrRefused},
		"closed in a reply":  {SOCKS5, "\x05\x00\x05\x00\x00\x01\x7f", ErrRefused},
		"kind of address":    {SOCKS5, "\x05\x00\x05\x00\x00\x09\x7f\x00\x00\x01\x00\x01", ErrProtocol},
		"version of reply":   {SOCKS5, "\x05\x00\x04\x00\x00\x01\x7f\x00\x00\x01\x00\x01", ErrProtocol},
		"unknown code":       {SOCKS5, "\x05\x00\x05\x63\x00\x01\x7f\x00\x00\x01\x00\x01", ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			go func() {
				_, _ = io.ReadAtLeast(far, make([]byte, 3), 3)
				go func() { _, _ = io.Copy(io.Discard, far) }()
				_, _ = io.WriteString(far, c.answer)
				_ = far.Close()
			}()
			p := &Proxy{Config{Version: c.version}}
			_, err := p.handshake(near, false, netip.MustParseAddrPort("192.0.2.1:80"))
			assert.ErrorIs(t, err, c.err)
			_ = near.Close()
		})
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	p, err := New(Config{Version: SOCKS5, Address: l.Addr().(*net.TCPAddr).AddrPort()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = p.DialContext(ctx, "tcp", "192.0.2.1:80")
	assert.Error(t, err, "it answers nothing")
}

func TestRelayedDatagrams(t *testing.T) {
	t.Parallel()
	to := netip.MustParseAddrPort("192.0.2.1:99")
	r := &relayed{to: to}
	whole := append(appendAddr([]byte{0, 0, 0}, to), "data"...)
	data, ok := r.open(whole)
	assert.True(t, ok)
	assert.Equal(t, "data", string(data))
	for name, b := range map[string][]byte{
		"nothing":       {},
		"head":          {0, 0, 0},
		"short address": whole[:9],
		"fragment":      append([]byte{0, 0, 1}, whole[3:]...),
		"a name":        append([]byte{0, 0, 0, 3, 1, 'a', 0, 99}, "data"...),
		"another's":     append(appendAddr([]byte{0, 0, 0}, netip.MustParseAddrPort("192.0.2.2:99")), "data"...),
		"another port":  append(appendAddr([]byte{0, 0, 0}, netip.MustParseAddrPort("192.0.2.1:98")), "data"...),
	} {
		_, ok := r.open(b)
		assert.False(t, ok, name)
	}
}

// TestProxyGoesAway: a flow of datagrams ends with the proxy.
func TestProxyGoesAway(t *testing.T) {
	t.Parallel()
	s := &proxytest.Server{Lead: func(string) (string, bool) { return "", false }}
	require.NoError(t, s.Start())
	c, err := dial(t, Config{Version: SOCKS5, Address: s.Addr()}, "udp", "192.0.2.1:99")
	require.NoError(t, err)
	s.Close()
	_, err = c.Read(make([]byte, 10))
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestRelayWithoutAddress(t *testing.T) {
	t.Parallel()
	_, err := (&Proxy{}).associate(nil, netip.AddrPort{}, netip.AddrPort{})
	assert.ErrorIs(t, err, ErrProtocol)
}

// TestRelayMayBe: a proxy does not make the guest's datagrams reach what is nearer to this
// machine than the proxy.
func TestRelayMayBe(t *testing.T) {
	t.Parallel()
	far, private, here := []string{"198.51.100.1", "2001:db8::1"}, []string{"10.0.0.1", "100.64.0.1", "fd00::1"}, []string{"127.0.0.1", "::1", "::"}
	link, many := []string{"169.254.169.254", "fe80::1"}, []string{"224.0.0.1", "ff02::1"}
	for name, c := range map[string]struct {
		proxies   []string
		yes, none [][]string
	}{
		"of the Internet": {far, [][]string{far}, [][]string{private, link, here, many}},
		"private":         {private, [][]string{far, private}, [][]string{link, here, many}},
		"on this machine": {[]string{"127.0.0.1", "::ffff:127.0.0.1", "::1"}, [][]string{far, private, link, here}, [][]string{many}},
	} {
		for _, p := range c.proxies {
			for _, a := range slices.Concat(c.yes...) {
				assert.True(t, mayRelay(netip.MustParseAddr(p), netip.MustParseAddr(a)), "%s: %s at %s", name, p, a)
			}
			for _, a := range slices.Concat(c.none...) {
				assert.False(t, mayRelay(netip.MustParseAddr(p), netip.MustParseAddr(a)), "%s: %s at %s", name, p, a)
			}
		}
	}
	p := &Proxy{Config{Version: SOCKS5, Address: netip.MustParseAddrPort("198.51.100.1:1080")}}
	for _, relay := range []string{"127.0.0.1:53", "[::ffff:127.0.0.1]:53"} {
		_, err := p.associate(nil, netip.MustParseAddrPort(relay), netip.AddrPort{})
		assert.ErrorIs(t, err, ErrProtocol, relay)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort("127.0.0.1:1080")
	long := strings.Repeat("x", 256)
	for name, c := range map[string]Config{
		"version":          {Address: at},
		"no address":       {Version: SOCKS5},
		"port 0":           {Version: SOCKS5, Address: netip.MustParseAddrPort("127.0.0.1:0")},
		"no password":      {Version: SOCKS5, Address: at, Username: "a"},
		"no user":          {Version: SOCKS5, Address: at, Password: "s3cret"},
		"user ID":          {Version: SOCKS5, Address: at, UserID: "a"},
		"password":         {Version: SOCKS4, Address: at, Username: "a", Password: "s3cret"},
		"long user ID":     {Version: SOCKS4, Address: at, UserID: long},
		"long password":    {Version: SOCKS5, Address: at, Username: "a", Password: long},
		"zero in the user": {Version: SOCKS4, Address: at, UserID: "a\x00b"},
	} {
		_, err := New(c)
		assert.ErrorIs(t, err, ErrConfig, name)
		assert.NotContains(t, err.Error(), "s3cret")
	}
}

// FuzzHandshake answers anything.
func FuzzHandshake(f *testing.F) {
	f.Add(uint8(5), true, []byte("\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"))
	f.Add(uint8(5), false, []byte("\x05\x02\x01\x00\x05\x00\x00\x03\x01a\x00\x01"))
	f.Add(uint8(4), false, []byte("\x00\x5a\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, version uint8, datagrams bool, answer []byte) {
		to := netip.MustParseAddrPort("192.0.2.1:80")
		rw := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(answer), io.Discard}
		err := connect4(rw, to, "")
		command := byte(commandConnect)
		if datagrams {
			command = commandAssociate
		}
		if Version(version) != SOCKS4 {
			_, err = request5(rw, &Config{Username: "a", Password: "s3cret"}, command, to)
		}
		if err != nil {
			assert.True(t, errors.Is(err, ErrRefused) || errors.Is(err, ErrProtocol), "%v", err)
		}
		r := &relayed{to: to}
		if data, ok := r.open(answer); ok {
			assert.Less(t, len(data), len(answer))
		}
	})
}
