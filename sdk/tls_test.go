package microsandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack/tls"
)

func TestTLSOfARow(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	_, err := tls.PersistedAuthority(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("extra.pem", nil, 0o600))

	_, n := networkOf(t, WithNetwork(&NetworkConfig{TLS: &TLSConfig{}}))
	want := launch.DefaultNetworkConfig()
	want.TLS.Enabled = true
	assert.Equal(t, want, n)
	var c SandboxConfig
	text, _ := networkOf(t, WithNetwork(&NetworkConfig{TLS: &TLSConfig{}}))
	c.setNetwork(json.RawMessage(text))
	require.NotNil(t, c.Network)
	again, _ := networkOf(t, WithNetwork(c.Network), WithPortBindings(c.PortBindings...))
	assert.Equal(t, want.TLS, func() launch.TLSConfig {
		var n launch.NetworkConfig
		require.NoError(t, json.Unmarshal([]byte(again), &n))
		return n.TLS
	}(), "what a row says is read back")

	// No option sets the cache's bounds; a row that has some keeps them.
	want.TLS.Cache = launch.TLSCache{Capacity: 7, ValidityHours: 1}
	row, err := json.Marshal(map[string]any{"enabled": true, "tls": want.TLS})
	require.NoError(t, err)
	c = SandboxConfig{}
	c.setNetwork(row)
	_, n = networkOf(t, WithNetwork(c.Network))
	assert.Equal(t, want.TLS, n.TLS)

	no := false
	text, n = networkOf(t, WithNetwork(&NetworkConfig{TLS: &TLSConfig{
		Bypass: []string{"*.Bank.example"}, VerifyUpstream: &no, InterceptedPorts: []uint16{8443, 443}, BlockQUIC: &no, CACert: "ca.crt", CAKey: "ca.key",
		UpstreamCACerts: []string{"extra.pem"}, ScopedUpstreamCACerts: []ScopedUpstreamCACert{{"*.corp.example", "extra.pem"}},
		ScopedVerifyUpstream: []ScopedVerifyUpstream{{"b.example", true}},
	}}))
	cert, key, extra := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), filepath.Join(dir, "extra.pem")
	assert.Equal(t, launch.TLSConfig{
		Enabled: true, InterceptedPorts: []uint16{8443, 443}, Bypass: []string{"*.Bank.example"}, UpstreamCACert: []string{extra},
		ScopedUpstreamCACert: []launch.ScopedCACert{{Pattern: "*.corp.example", Path: extra}},
		ScopedVerifyUpstream: []launch.ScopedVerify{{Pattern: "b.example", Verify: true}},
		InterceptCA:          launch.InterceptCA{CertPath: &cert, KeyPath: &key}, Cache: launch.TLSCache{Capacity: 1000, ValidityHours: 24},
	}, n.TLS)
	c = SandboxConfig{}
	c.setNetwork(json.RawMessage(text))
	assert.Equal(t, &TLSConfig{
		Bypass: []string{"*.Bank.example"}, VerifyUpstream: &no, InterceptedPorts: []uint16{8443, 443}, BlockQUIC: &no, CACert: cert, CAKey: key,
		UpstreamCACerts: []string{extra}, ScopedUpstreamCACerts: []ScopedUpstreamCACert{{"*.corp.example", extra}},
		ScopedVerifyUpstream: []ScopedVerifyUpstream{{"b.example", true}},
	}, c.Network.TLS)
}

func TestTLSIsChecked(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("junk.pem", []byte("junk"), 0o600))
	for text, c := range map[string]TLSConfig{
		"intercept CA config is incomplete; set both cert_path and key_path": {CACert: "junk.pem"},
		"junk.pem":                 {CACert: "junk.pem", CAKey: "junk.pem"},
		"port 0":                   {InterceptedPorts: []uint16{443, 0}},
		`invalid host pattern "*"`: {Bypass: []string{"*"}},
		`"a b"`:                    {ScopedVerifyUpstream: []ScopedVerifyUpstream{{Pattern: "a b"}}},
		`""`:                       {ScopedUpstreamCACerts: []ScopedUpstreamCACert{{Path: "junk.pem"}}},
		"missing.pem":              {UpstreamCACerts: []string{"missing.pem"}},
		"elsewhere.pem":            {ScopedUpstreamCACerts: []ScopedUpstreamCACert{{"a.example", "elsewhere.pem"}}},
	} {
		s := SandboxConfig{Network: &NetworkConfig{TLS: &c}}
		_, err := s.networkSpec()
		assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
		assert.ErrorContains(t, err, text)
	}
}
