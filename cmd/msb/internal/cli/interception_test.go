package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestInterceptionFlags: as 0.6.18 has it, any flag turns interception on.
func TestInterceptionFlags(t *testing.T) {
	no := false
	for line, want := range map[string]*msb.TLSConfig{
		"":                         nil,
		"--trust-host-cas":         nil,
		"--tls-intercept":          {},
		"--no-block-quic":          {BlockQUIC: &no},
		"--tls-bypass *.a.example": {Bypass: []string{"*.a.example"}},
		"--tls-intercept-port 8443 --tls-intercept-port 443": {InterceptedPorts: []uint16{8443, 443}},
		"--tls-intercept-ca-cert c --tls-intercept-ca-key k": {CACert: "c", CAKey: "k"},
		"--tls-intercept-ca-key k":                           {CAKey: "k"}, // the sdk refuses it
		"--tls-upstream-ca-cert a --tls-upstream-ca-cert b":  {UpstreamCACerts: []string{"a", "b"}},
		"--tls-upstream-ca-cert-for *.a.example=p=q --tls-no-verify-upstream-for b.example": {
			ScopedUpstreamCACerts: []msb.ScopedUpstreamCACert{{Pattern: "*.a.example", Path: "p=q"}},
			ScopedVerifyUpstream:  []msb.ScopedVerifyUpstream{{Pattern: "b.example"}},
		},
	} {
		c, err := networkOf(line)
		require.NoError(t, err, line)
		assert.Equal(t, want, c.Network.TLS, line)
	}
	for line, text := range map[string]string{
		"--tls-intercept-port 99999":       "invalid value '99999' for '--tls-intercept-port <TLS_INTERCEPT_PORT>'",
		"--tls-intercept-port 0":           "invalid value '0' for '--tls-intercept-port",
		"--tls-intercept-port x":           "'x'",
		"--tls-upstream-ca-cert-for nope":  "scoped upstream CA must be in format PATTERN=PATH",
		"--tls-upstream-ca-cert-for =path": "scoped upstream CA must be in format PATTERN=PATH",
		"--tls-upstream-ca-cert-for a=":    "scoped upstream CA must be in format PATTERN=PATH",
	} {
		_, err := networkOf(line)
		assert.ErrorContains(t, err, text, line)
	}
}
