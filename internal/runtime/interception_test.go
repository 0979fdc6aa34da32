package runtime

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack"
)

// intercepted is a launch configuration with interception in a data root of its own.
func intercepted(t *testing.T, change func(*launch.NetworkConfig)) (c *launch.Config, home string) {
	home = t.TempDir()
	c = networked(func(n *launch.NetworkConfig) {
		n.TLS.Enabled = true
		if change != nil {
			change(n)
		}
	})
	c.DBPath, c.RuntimeDir = filepath.Join(home, "db", "msb.db"), filepath.Join(home, "runtime")
	require.NoError(t, os.Mkdir(c.RuntimeDir, 0o700))
	return c, home
}

func TestInterception(t *testing.T) {
	c, home := intercepted(t, func(n *launch.NetworkConfig) {
		n.TLS.InterceptedPorts, n.TLS.Bypass, n.TLS.BlockQUICOnIntercept = []uint16{8443}, []string{"*", "*.bank.example"}, false
		n.TLS.VerifyUpstream = false
		n.TLS.ScopedVerifyUpstream = []launch.ScopedVerify{{Pattern: "strict.example", Verify: true}}
		n.TLS.ScopedUpstreamCACert = []launch.ScopedCACert{{Pattern: "*.corp.example", Path: "/no/such/file"}}
		n.TLS.Cache = launch.TLSCache{Capacity: 1 << 63, ValidityHours: 1 << 63}
	})
	var log bytes.Buffer
	n, err := openNetwork(c, netstack.Families{IPv4: true}, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	defer n.close()
	given, err := os.ReadFile(filepath.Join(c.RuntimeDir, "tls", "ca.pem"))
	require.NoError(t, err)
	kept, err := os.ReadFile(filepath.Join(home, "tls", "ca.crt"))
	require.NoError(t, err)
	assert.Equal(t, kept, given)
	assert.NotContains(t, string(given), "KEY")
	assert.True(t, n.tls.Intercepts(8443))
	assert.False(t, n.tls.Intercepts(443))
	assert.False(t, n.tls.BlocksUDP(8443))
	assert.True(t, n.tls.Bypasses("www.bank.example"))
	assert.False(t, n.tls.Bypasses("www.example.com"), "microsandbox takes * for a name that nothing has")
	assert.True(t, n.tls.Upstream("a.example").InsecureSkipVerify)
	assert.False(t, n.tls.Upstream("strict.example").InsecureSkipVerify)
	assert.Contains(t, log.String(), "/no/such/file")

	c.Network.Config.TLS.Enabled = false
	plain, err := openNetwork(c, netstack.Families{IPv4: true}, quietLog)
	require.NoError(t, err)
	defer plain.close()
	assert.Nil(t, plain.tls)
	assert.NoDirExists(t, filepath.Join(c.RuntimeDir, "tls"), "what the guest was given is taken away")
}

func TestInterceptionRefuses(t *testing.T) {
	missing := func(s string) *string { return &s }
	for name, c := range map[string]struct {
		change func(*launch.TLSConfig)
		text   string
	}{
		"half a pair": {func(t *launch.TLSConfig) { t.InterceptCA.KeyPath = missing("/k") }, "set both cert_path and key_path"},
		"missing files": {func(t *launch.TLSConfig) {
			t.InterceptCA = launch.InterceptCA{CertPath: missing("/c"), KeyPath: missing("/k")}
		}, "/c"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := intercepted(t, func(n *launch.NetworkConfig) { c.change(&n.TLS) })
			_, err := openNetwork(cfg, netstack.Families{IPv4: true}, quietLog)
			require.ErrorContains(t, err, c.text)
			var boot *launch.BootError
			require.ErrorAs(t, err, &boot)
			assert.Equal(t, launch.StageNetwork, boot.Stage)
		})
	}
}
