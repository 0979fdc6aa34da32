package netstack

import (
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

	"github.com/gomsb/gomsb/netstack/policy"
	mitm "github.com/gomsb/gomsb/netstack/tls"
)

// namesHosts answers each request with the host that it names.
func namesHosts(c io.ReadWriter) { replies(c, func(r *http.Request) string { return r.Host }) }

// get sends a request for a host and is the host that it arrived for, "" if it did not.
func get(t *testing.T, c net.Conn, host string) string {
	t.Helper()
	return ask(t, c, "Host: "+host)
}

// newStrict is a sandbox in strict mode that may reach www.good.example and what is below
// bank.example, which is not intercepted, all at world4, and anything at 198.51.0.0/16.
func newStrict(t *testing.T) *secured {
	t.Helper()
	s := newSecured(t, rules(t, "allow@*.good.example,allow@*.bank.example,allow@198.51.0.0/16"), func(c *Config, _ *mitm.Config) {
		c.Policy = c.Policy.Strict()
	})
	s.names.Set("www.good.example", false, []netip.Addr{world4}, time.Hour)
	s.names.Set("www.bank.example", false, []netip.Addr{world4}, time.Hour)
	return s
}

// TestStrictTLS: what a name lets out is held to it, request by request.
func TestStrictTLS(t *testing.T) {
	t.Parallel()
	s := newStrict(t)
	s.site(at(world4, 443), func(c *tls.Conn) { namesHosts(c) })
	c := s.mustOpen(at(world4, 443), "www.good.example")
	assert.Equal(t, "www.good.example", get(t, c, "www.good.example"))
	assert.Equal(t, "www.good.example:443", get(t, c, "www.good.example:443"))
	assert.Empty(t, get(t, c, "evil.example"), "SNI differing from the host of a request")
	assert.Empty(t, get(t, s.mustOpen(at(world4, 443), "www.good.example"), "evil.example"))

	c = s.mustOpen(at(world4, 443), "www.good.example")
	_, err := io.WriteString(c, "SSH-2.0-x\r\n")
	require.NoError(t, err)
	_, err = io.ReadAll(c)
	assert.NoError(t, err, "closed, after nothing")

	_, err = s.open(at(world4, 443), "evil.example", nil)
	assert.Error(t, err)
	_, err = s.open(at(world4, 443), "www.bank.example", func(c *tls.Config) { c.InsecureSkipVerify = true })
	assert.Error(t, err, "a bypass cannot be seen into")
	assert.Eventually(t, func() bool {
		return strings.Contains(s.log.String(), "in strict mode") && strings.Contains(s.log.String(), "strict mode refused a request") && strings.Contains(s.log.String(), "rule 2, allow@*.bank.example")
	}, watchdog, time.Millisecond)
	s.idle()
}

// TestStrictPlain: HTTP names its host as it is, and nothing else does.
func TestStrictPlain(t *testing.T) {
	t.Parallel()
	s := newStrict(t)
	for _, port := range []uint16{80, 8443} {
		s.tcpWorld(at(world4, port), func(c *net.TCPConn) { namesHosts(c) })
	}
	c := s.mustDial(at(world4, 80))
	assert.Equal(t, "www.good.example", get(t, c, "www.good.example"))
	assert.Empty(t, get(t, c, "evil.example"))
	assert.Empty(t, get(t, s.mustDial(at(world4, 80)), "evil.example"))
	assert.Empty(t, get(t, s.mustDial(at(world4, 80)), "93.184.216.34"))

	c = s.mustDial(at(world4, 80))
	_, err := io.WriteString(c, "CONNECT www.good.example:443 HTTP/1.1\r\nHost: www.good.example:443\r\n\r\n")
	require.NoError(t, err)
	b, _ := io.ReadAll(c)
	assert.Empty(t, b, "a tunnel cannot be seen into")

	c = s.mustDial(at(world4, 8443)) // TLS where none is intercepted
	assert.Error(t, tls.Client(c, &tls.Config{ServerName: "www.good.example", RootCAs: s.ours}).Handshake())
	s.udpWorld(at(world4, 99))
	u := s.udp(0, at(world4, 99))
	_, err = u.Write([]byte("x"))
	require.NoError(t, err)
	nothing(t, u)

	elsewhere := at(netip.MustParseAddr("198.51.1.1"), 22) // an address lets it out
	s.tcpWorld(elsewhere, echoes)
	exchange(t, s.mustDial(elsewhere), "SSH-2.0-x\r\n")
	s.idle()
}

// TestStrictWithoutInterception: plain HTTP passes, TLS does not.
func TestStrictWithoutInterception(t *testing.T) {
	t.Parallel()
	var names *policy.Index
	log := new(lines)
	g := newGuest(t, rules(t, "allow@www.good.example"), func(c *Config) {
		names, c.Policy, c.Logger = c.Names, c.Policy.Strict(), log.logger()
	})
	names.Set("www.good.example", false, []netip.Addr{world4}, time.Hour)
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) { namesHosts(c) })
	g.tcpWorld(at(world4, 443), func(*net.TCPConn) { t.Error("TLS was let out") })
	assert.Equal(t, "www.good.example", get(t, g.mustDial(at(world4, 80)), "www.good.example"))
	assert.Error(t, tls.Client(g.mustDial(at(world4, 443)), &tls.Config{ServerName: "www.good.example"}).Handshake())
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "have TLS on this port intercepted") }, watchdog, time.Millisecond)
}
