package microsandbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

const sesame = "s3same-0pen"

// secretRow is the row's network of a sandbox with these options, and the specification
// that was made with it.
func secretRow(t *testing.T, opts ...SandboxOption) (*spec, error) {
	t.Helper()
	var c SandboxConfig
	for _, o := range opts {
		o(&c)
	}
	b, err := c.networkSpec()
	return &spec{Network: b, secretValues: c.secretValues()}, err
}

func TestSecretsOfARow(t *testing.T) {
	t.Setenv("API_KEY", sesame)
	s, err := secretRow(t, WithSecrets(Secret.FromEnv("API_KEY", SecretEnvOptions{AllowHosts: []string{"api.example.com"}})))
	require.NoError(t, err)
	var row map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(s.Network, &row))
	assert.JSONEq(t, `{"secrets":[{"env_var":"API_KEY","value":"","source":{"kind":"env","var":"API_KEY"},"placeholder":"$MSB_API_KEY",
		"allowed_hosts":[{"exact":"api.example.com"}],"injection":{"headers":true,"basic_auth":true,"query_params":false,"body":false},"require_tls_identity":true}],
		"on_violation":"block-and-log"}`, string(row["secrets"]), "as 0.6.18 has it")
	assert.Contains(t, string(row["tls"]), `"enabled":true`, "a sandbox with a secret intercepts")

	n, err := s.networkConfig()
	require.NoError(t, err)
	assert.True(t, n.Config.Secrets.Secrets[0].Value == sesame, "the runtime gets it")
	t.Setenv("API_KEY", "rotated")
	n, err = s.networkConfig()
	require.NoError(t, err)
	assert.True(t, n.Config.Secrets.Secrets[0].Value == "rotated", "it is read at each start")
	t.Setenv("API_KEY", "")
	_, err = s.networkConfig()
	require.ErrorContains(t, err, "host environment variable API_KEY is not set or empty")

	var back SandboxConfig
	back.setNetwork(s.Network)
	assert.Equal(t, []SecretEntry{{
		EnvVar: "API_KEY", ValueFrom: "API_KEY", AllowHostPatterns: []string{"api.example.com"}, Placeholder: "$MSB_API_KEY",
		Inject: &SecretInjection{Headers: true, BasicAuth: true}, RequireTLS: pointer(true),
	}}, back.Secrets)
}

func TestSecretsByValue(t *testing.T) {
	t.Parallel()
	no := false
	entry := Secret.Env("TOKEN", sesame, SecretEnvOptions{
		AllowHostPatterns: []string{"*.example.com", "*"}, Placeholder: "tok", Inject: &SecretInjection{Body: true}, RequireTLS: &no, OnViolation: ViolationActionPassthrough,
	})
	s, err := secretRow(t, WithSecrets(entry), WithNetwork(&NetworkConfig{OnSecretViolation: ViolationActionBlockAndTerminate}))
	require.NoError(t, err)
	assert.NotContains(t, string(s.Network), sesame, "no row has it")
	var row struct {
		Secrets launch.SecretsConfig `json:"secrets"`
	}
	require.NoError(t, json.Unmarshal(s.Network, &row))
	text, err := json.Marshal(row.Secrets)
	require.NoError(t, err)
	assert.JSONEq(t, `{"secrets":[{"env_var":"TOKEN","value":"","placeholder":"tok","allowed_hosts":[{"wildcard":"*.example.com"},"any"],
		"injection":{"headers":false,"basic_auth":false,"query_params":false,"body":true},"on_violation":{"passthrough":["any"]},"require_tls_identity":false}],
		"on_violation":"block-and-terminate"}`, string(text))

	n, err := s.networkConfig()
	require.NoError(t, err)
	assert.True(t, n.Config.Secrets.Secrets[0].Value == sesame)
	_, err = (&spec{Network: s.Network}).networkConfig()
	require.ErrorContains(t, err, "the value of secret TOKEN was given when the sandbox was created and is not kept")

	shown := fmt.Sprintf("%v %+v %#v %s", entry, entry, entry, []SecretEntry{entry})
	assert.NotContains(t, shown, sesame)
}

func TestInvalidSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*SecretEntry)
		want   string
	}{
		"no name":          {func(e *SecretEntry) { e.EnvVar = "" }, "cannot be the name of an environment variable"},
		"odd name":         {func(e *SecretEntry) { e.EnvVar = "A=B" }, "cannot be the name of an environment variable"},
		"no value":         {func(e *SecretEntry) { e.Value = "" }, "set one of Value and ValueFrom"},
		"two values":       {func(e *SecretEntry) { e.ValueFrom = "HOME" }, "set one of Value and ValueFrom"},
		"no UTF-8":         {func(e *SecretEntry) { e.Value = "a\xff" }, "its value is not UTF-8"},
		"no hosts":         {func(e *SecretEntry) { e.AllowHosts = nil }, "no host may have it"},
		"pattern as host":  {func(e *SecretEntry) { e.AllowHosts = []string{"*.example.com"} }, "it belongs into AllowHostPatterns"},
		"bad host":         {func(e *SecretEntry) { e.AllowHosts = []string{"https://example.com"} }, `host "https://example.com"`},
		"bad pattern":      {func(e *SecretEntry) { e.AllowHostPatterns = []string{"a*"} }, `host "a*"`},
		"long placeholder": {func(e *SecretEntry) { e.Placeholder = strings.Repeat("x", 1025) }, "1025 bytes"},
		"two lines":        {func(e *SecretEntry) { e.Placeholder = "a\nb" }, "NUL, CR or LF"},
		"action":           {func(e *SecretEntry) { e.OnViolation = "allow" }, `unknown violation action "allow"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := Secret.Env("K", sesame, SecretEnvOptions{AllowHosts: []string{"api.example.com"}})
			c.change(&e)
			_, err := secretRow(t, WithSecrets(e))
			require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), sesame)
		})
	}
	good := Secret.Env("K", sesame, SecretEnvOptions{AllowHosts: []string{"a.example.com"}})
	other := Secret.Env("K", sesame, SecretEnvOptions{AllowHosts: []string{"b.example.com"}, Placeholder: "p"})
	_, err := secretRow(t, WithSecrets(good, other))
	require.ErrorContains(t, err, "two placeholders")
	other = Secret.Env("K", "another-value", SecretEnvOptions{AllowHosts: []string{"b.example.com"}})
	_, err = secretRow(t, WithSecrets(good, other))
	require.ErrorContains(t, err, "two values", "else the last one goes to the hosts of both")
	assert.NotContains(t, err.Error(), "another-value")
	_, err = secretRow(t, WithSecrets(good, Secret.FromEnv("K", SecretEnvOptions{AllowHosts: []string{"b.example.com"}})))
	require.ErrorContains(t, err, "two values")
	other.Value = sesame
	_, err = secretRow(t, WithSecrets(good, other))
	require.NoError(t, err, "one value for the hosts of both")
	for name, opts := range map[string][]SandboxOption{"with a secret": {WithSecrets(good)}, "without": nil} {
		_, err = secretRow(t, append(opts, WithNetwork(&NetworkConfig{OnSecretViolation: "allow"}))...)
		require.ErrorContains(t, err, `unknown violation action "allow"`, name)
	}
}

// A row of an official SDK's may have a value, which no one is shown.
func TestConfigShowsNoValue(t *testing.T) {
	t.Parallel()
	row := func(value string) string {
		return `{"name":"x","big":9007199254740993,"network":{"secrets":{"secrets":[{"env_var":"K","value":"` + value + `"},{"env_var":"L","value":""}]}}}`
	}
	h := &SandboxHandle{row: store.Sandbox{Config: row(sesame), ActiveConfig: row(sesame), Status: store.Running}}
	for _, text := range []string{h.ConfigJSON(), h.ActiveConfigJSON()} {
		assert.JSONEq(t, row(""), text)
		assert.Contains(t, text, "9007199254740993")
	}
	for _, text := range []string{"", "{", "[]", `{"network":null}`, `{"network":{"secrets":{"secrets":[7]}}}`, row("")} {
		assert.Equal(t, text, withoutValues(text))
	}
}

func TestRuntimeEnvironment(t *testing.T) {
	t.Setenv("API_KEY", sesame)
	s, err := secretRow(t, WithSecrets(Secret.FromEnv("API_KEY", SecretEnvOptions{AllowHosts: []string{"api.example.com"}})))
	require.NoError(t, err)
	n, err := s.networkConfig()
	require.NoError(t, err)
	assert.Equal(t, []string{"A=b", "API_KEYS=c"}, withoutSecrets([]string{"A=b", "API_KEY=" + sesame, "API_KEYS=c"}, n))
	assert.Equal(t, []string{"API_KEY=d"}, withoutSecrets([]string{"API_KEY=d"}, nil))
}
