package netstack

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/secrets"
	mitm "github.com/gomsb/gomsb/netstack/tls"
)

// replies answers each request with what say has to say about it.
func replies(c io.ReadWriter, say func(*http.Request) string) {
	b := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(b)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Said: "+say(r)+"\r\n\r\n")
	}
}

// ask sends a request with these fields and is what a server that replies has to say, "" if
// it got nothing.
func ask(t *testing.T, c net.Conn, fields ...string) string {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(watchdog)))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n"); err != nil {
		return ""
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return ""
	}
	_ = r.Body.Close()
	return r.Header.Get("X-Said")
}

// confides answers each request with what its field X-Key has.
func confides(c io.ReadWriter) {
	replies(c, func(r *http.Request) string { return r.Header.Get("X-Key") })
}

// tell sends a request with a placeholder in it, and is what the server got; "" if it got
// nothing.
func tell(t *testing.T, c net.Conn, host string) string {
	t.Helper()
	return ask(t, c, "Host: "+host, "X-Key: $KEY")
}

// newConfiding is a sandbox with the secret KEY for www.good.example, at world4, and what
// else may happen to it. terminated has an element once the sandbox is to end.
func newConfiding(t *testing.T, requireTLS bool, on secrets.Kind) (s *secured, terminated chan struct{}) {
	t.Helper()
	terminated = make(chan struct{}, 9)
	good, err := secrets.ParseHost("www.good.example")
	require.NoError(t, err)
	s = newSecured(t, rules(t, "allow@any"), func(c *Config, _ *mitm.Config) {
		store, err := secrets.NewStore(secrets.Config{OnViolation: secrets.Action{Kind: on}, Secrets: []secrets.Secret{{
			EnvVar: "KEY", Value: secrets.NewValue("s3same"), Placeholder: "$KEY", Hosts: []secrets.HostPattern{good}, Injection: secrets.DefaultInjection(), RequireTLS: requireTLS,
		}}}, secrets.Where{Names: c.Names})
		require.NoError(t, err)
		c.Secrets, c.Terminate = store.Rewriter, func() { terminated <- struct{}{} }
	})
	s.names.Set("www.good.example", false, []netip.Addr{world4}, time.Hour)
	return s, terminated
}

func TestSecretsByTLS(t *testing.T) {
	t.Parallel()
	s, terminated := newConfiding(t, true, secrets.KindLog)
	s.site(at(world4, 443), func(c *tls.Conn) { confides(c) })
	other := netip.MustParseAddr("198.51.0.9")
	s.site(at(other, 443), func(c *tls.Conn) { confides(c) })
	s.proxy(at(world4, 3128), func(*http.Request) string { return granted })
	to, _ := s.guest.world.lookup("tcp", at(world4, 443).String())
	s.guest.world.set("tcp", "www.good.example:443", to)
	s.guest.world.set("tcp", "evil.example:443", to)

	assert.Equal(t, "s3same", tell(t, s.mustOpen(at(world4, 443), "www.good.example"), "www.good.example"))
	assert.Empty(t, tell(t, s.mustOpen(at(world4, 443), "www.good.example"), "evil.example"), "another host in the request")
	assert.Empty(t, tell(t, s.mustOpen(at(world4, 443), "evil.example"), "evil.example"), "another name")
	assert.Empty(t, tell(t, s.mustOpen(at(other, 443), "www.good.example"), "www.good.example"), "an address that is not the host's")
	for host, want := range map[string]string{"www.good.example": "s3same", "evil.example": ""} {
		c, answer := s.through(at(world4, 3128), "CONNECT "+host+":443 HTTP/1.1\r\n\r\n")
		require.Equal(t, granted, answer)
		assert.Equal(t, want, tell(t, tls.Client(c, &tls.Config{ServerName: host, RootCAs: s.ours}), host), "in a tunnel")
	}
	_, answer := s.through(at(world4, 3128), "CONNECT www.good.example:443 HTTP/1.1\r\nX-Key: $KEY\r\n\r\n")
	assert.Empty(t, answer, "nothing is for the proxy")
	s.idle()
	assert.Contains(t, s.log.String(), secrets.Message)
	assert.Contains(t, s.log.String(), "guest_dst=198.51.0.9:443")
	assert.NotContains(t, s.log.String(), "s3same")
	assert.Empty(t, terminated)
}

func TestSecretsInPlain(t *testing.T) {
	t.Parallel()
	for requireTLS, want := range map[bool]string{false: "s3same", true: "$KEY"} {
		s, _ := newConfiding(t, requireTLS, secrets.KindLog)
		s.tcpWorld(at(world4, 80), func(c *net.TCPConn) { confides(c) })
		assert.Equal(t, want, tell(t, s.mustDial(at(world4, 80)), "www.good.example"))
		assert.Empty(t, tell(t, s.mustDial(at(world4, 80)), "evil.example"))
		// A server that speaks first is not kept waiting.
		s.tcpWorld(at(world4, 25), func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "220 welcome\r\n")
			_, _ = io.Copy(c, c)
		})
		c := s.mustDial(at(world4, 25))
		require.NoError(t, c.SetDeadline(time.Now().Add(watchdog)))
		b := bufio.NewReader(c)
		line, err := b.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "220 welcome\r\n", line)
		_, err = io.WriteString(c, "EHLO guest\r\n")
		require.NoError(t, err)
		line, err = b.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "EHLO guest\r\n", line)
	}
}

func TestViolationTerminates(t *testing.T) {
	t.Parallel()
	s, terminated := newConfiding(t, false, secrets.KindTerminate)
	s.tcpWorld(at(world4, 80), func(c *net.TCPConn) { confides(c) })
	assert.Empty(t, tell(t, s.mustDial(at(world4, 80)), "evil.example"))
	select {
	case <-terminated:
	case <-time.After(watchdog):
		t.Fatal("nobody is told")
	}
	assert.Contains(t, s.log.String(), "level=ERROR")
	assert.Contains(t, s.log.String(), "action=block-and-terminate secret_env_var=KEY")
}
