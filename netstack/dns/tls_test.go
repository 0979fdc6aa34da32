package dns

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/gomsb/gomsb/netstack/policy"
	mitm "github.com/gomsb/gomsb/netstack/tls"
)

// seal puts TLS in front of a name server.
func seal(t *testing.T, u *upstream, c *tls.Config) netip.AddrPort {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				to, err := net.Dial("tcp", u.addr.String())
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(to, c)
					_ = to.Close()
				}()
				_, _ = io.Copy(c, to)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestQuestionsByTLS is U7 of DNS over TLS, and D4: the gateway asks its own servers as
// ever, and those of the guest's choice by TLS, if they are who the guest means.
func TestQuestionsByTLS(t *testing.T) {
	t.Parallel()
	ca, err := mitm.PersistedAuthority(t.Context(), t.TempDir())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, ca.PEM(), 0o600))
	world, err := mitm.New(mitm.Config{Authority: ca, Trust: mitm.Trust{Files: []string{file}}})
	require.NoError(t, err)
	far := start(t, records(a("x.", 1, "93.184.216.34")))
	near := start(t, records(a("x.", 1, "93.184.216.35")))
	at := seal(t, far, world.Guest())
	var dialled []string
	dial := func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == near.addr.String() {
			return new(net.Dialer).DialContext(ctx, network, to)
		}
		dialled = append(dialled, network+" "+to)
		return new(net.Dialer).DialContext(ctx, network, at.String())
	}
	question := ask(t, "x.", dnsmessage.TypeA, 0, 1)
	tcp := func(resolver netip.Addr, server string) Way { return Way{policy.TCP, resolver, server} }

	open, err := policy.FromProfiles(policy.Public)
	require.NoError(t, err)
	open.Rules = append([]policy.Rule{{
		Direction: policy.Egress, Destination: policy.Destination{Kind: policy.KindGroup, Value: string(policy.Host)},
		Ports: []policy.PortRange{{Start: 853, End: 853}}, Action: policy.Allow,
	}}, open.Rules...)
	f, _ := forwarder(t, open, func(c *Config) { c.Dial, c.TLS = dial, world.Upstream }, near)
	m := unpack(t, f.Answer(t.Context(), question, tcp(netip.Addr{}, "dns.example")))
	assert.Equal(t, &dnsmessage.AResource{A: [4]byte{93, 184, 216, 35}}, m.Answers[0].Body)
	assert.Empty(t, dialled)
	for _, server := range []string{"127.0.0.1", "dns.example"} {
		m = unpack(t, f.Answer(t.Context(), question, tcp(addr("1.1.1.1"), server)))
		require.Len(t, m.Answers, 1, server)
		assert.Equal(t, &dnsmessage.AResource{A: [4]byte{93, 184, 216, 34}}, m.Answers[0].Body)
	}
	assert.Equal(t, []string{"tcp 1.1.1.1:853", "tcp 1.1.1.1:853"}, dialled)
	m = unpack(t, f.Answer(t.Context(), question, tcp(addr("10.1.1.1"), "dns.example")))
	assert.Equal(t, dnsmessage.RCodeNameError, m.RCode, "a resolver that the policy denies")

	dialled = nil
	f, _ = forwarder(t, policy.Default(), func(c *Config) { c.Dial, c.TLS = dial, world.Upstream }, near)
	m = unpack(t, f.Answer(t.Context(), question, tcp(netip.Addr{}, "dns.example")))
	assert.Equal(t, dnsmessage.RCodeNameError, m.RCode, "the default allows port 53 only")

	strange, err := mitm.New(mitm.Config{Authority: ca})
	require.NoError(t, err)
	for what, upstream := range map[string]func(string) *tls.Config{"an unknown authority": strange.Upstream, "no TLS": nil} {
		f, _ = forwarder(t, open, func(c *Config) { c.Dial, c.TLS = dial, upstream }, near)
		m = unpack(t, f.Answer(t.Context(), question, tcp(addr("1.1.1.1"), "dns.example")))
		assert.Equal(t, dnsmessage.RCodeServerFailure, m.RCode, what)
	}
	assert.EqualValues(t, 2, far.asked.Load())
}
