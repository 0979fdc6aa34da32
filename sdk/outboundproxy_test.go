package microsandbox

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

func TestOutboundProxyOfARow(t *testing.T) {
	t.Setenv("PW", "topsecret")
	p := &OutboundProxyConfig{URL: "socks5://10.1.2.3:1080", Socks5Username: "bob", Socks5PasswordEnv: "PW"}
	c := SandboxConfig{Network: &NetworkConfig{OutboundProxy: p, Strict: true}}
	b, err := c.networkSpec()
	require.NoError(t, err)
	assert.NotContains(t, string(b), "topsecret", "the row")
	var row map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(b, &row))
	assert.JSONEq(t, `{"protocol":"socks5","address":"10.1.2.3:1080","credentials":{"username":"bob","password":{"kind":"env","var":"PW"}}}`,
		string(row["outbound_proxy"]), "as 0.6.18 has it")
	assert.JSONEq(t, "true", string(row["strict"]))

	s := &spec{Network: b}
	n, err := s.networkConfig()
	require.NoError(t, err)
	require.NoError(t, n.CheckProxy())
	assert.Equal(t, &launch.ResolvedProxy{Socks5: &launch.ResolvedSocks5{
		Address: "10.1.2.3:1080", Credentials: &launch.ResolvedCredentials{Username: "bob", Password: "topsecret"},
	}}, n.OutboundProxy, "the launch configuration")
	var back SandboxConfig
	back.setNetwork(b)
	assert.Equal(t, p, back.Network.OutboundProxy)
	assert.True(t, back.Network.Strict)

	t.Setenv("PW", "")
	_, err = s.networkConfig()
	assert.True(t, IsKind(err, ErrInvalidConfig), "the variable is gone when the sandbox is to start again")
	assert.ErrorContains(t, err, "PW is not set")

	_, launched := networkOf(t, WithNetwork(&NetworkConfig{OutboundProxy: &OutboundProxyConfig{URL: "socks4://10.1.2.3:1080", Socks4UserID: "fred"}}))
	assert.Equal(t, &launch.OutboundProxy{Protocol: "socks4", Address: "10.1.2.3:1080", UserID: pointer("fred")}, launched.OutboundProxy)
}

func TestOutboundProxyIsChecked(t *testing.T) {
	t.Setenv("PW", "topsecret")
	for want, c := range map[string]OutboundProxyConfig{
		"must include a protocol":                  {URL: "1.2.3.4:80"},
		"unsupported outbound proxy protocol":      {URL: "SOCKS5://1.2.3.4:1"},
		"credentials are not supported in the URL": {URL: "socks5://u:hunter2@1.2.3.4:80"},
		"must not include a path":                  {URL: "socks5://1.2.3.4:80/x"},
		`invalid SOCKS5 proxy address "host:80"`:   {URL: "socks5://host:80"},
		`invalid SOCKS4 proxy address "1.2.3.4"`:   {URL: "socks4://1.2.3.4"},
		`invalid SOCKS5 proxy address "1.2.3.4:0"`: {URL: "socks5://1.2.3.4:0"},
		"requires a socks4":                        {URL: "socks5://1.2.3.4:1", Socks4UserID: "x"},
		"require a socks5":                         {URL: "socks4://1.2.3.4:1", Socks5Username: "x", Socks5PasswordEnv: "PW"},
		"requires the variable of the password":    {URL: "socks5://1.2.3.4:1", Socks5Username: "x"},
		"variable NOPE is not set":                 {URL: "socks5://1.2.3.4:1", Socks5Username: "x", Socks5PasswordEnv: "NOPE"},
		"the variable of a SOCKS5 password is not": {URL: "socks5://1.2.3.4:1", Socks5Username: "x", Socks5PasswordEnv: "PW=1"},
	} {
		_, err := (&SandboxConfig{Network: &NetworkConfig{OutboundProxy: &c}}).networkSpec()
		require.True(t, IsKind(err, ErrInvalidConfig), want)
		assert.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "topsecret")
		assert.NotContains(t, err.Error(), "hunter2")
	}
}
