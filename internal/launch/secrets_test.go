package launch

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/netstack/secrets"
)

func TestSecretsJSON(t *testing.T) {
	t.Parallel()
	const text = `{"secrets":[{"env_var":"A","value":"v","source":{"kind":"env","var":"A"},"placeholder":"$A",
		"allowed_hosts":["any",{"exact":"a.example"},{"wildcard":"*.b.example"}],
		"injection":{"headers":true,"basic_auth":false,"query_params":true,"body":true},
		"on_violation":{"passthrough":["any"]},"require_tls_identity":false}],"on_violation":"block-and-terminate"}`
	var c SecretsConfig
	require.NoError(t, json.Unmarshal([]byte(text), &c))
	out, err := json.Marshal(c)
	require.NoError(t, err)
	assert.JSONEq(t, text, string(out))
	assert.Equal(t, secrets.KindTerminate, c.OnViolation.Kind)
	assert.Equal(t, []proto.EnvVar{{Key: "A", Value: "$A"}}, c.Environment())
	assert.NoError(t, c.Config().Validate())
	require.Error(t, json.Unmarshal([]byte(`{"on_violation":"allow"}`), &c))
	require.Error(t, json.Unmarshal([]byte(`{"secrets":[{"allowed_hosts":["all"]}]}`), &c))
}

func TestResolveSecrets(t *testing.T) {
	t.Parallel()
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "from-env", "EMPTY": ""}[name]
		return v, ok
	}
	for name, c := range map[string]struct {
		secret Secret
		want   SecretValue
		err    string
	}{
		"value":    {Secret{EnvVar: "K", Value: "given"}, "given", ""},
		"resolved": {Secret{EnvVar: "K", Value: "given", Source: &SecretSource{Kind: "env", Var: "A"}}, "given", ""},
		"env":      {Secret{EnvVar: "K", Source: &SecretSource{Kind: "env", Var: "A"}}, "from-env", ""},
		"unset":    {Secret{EnvVar: "K", Source: &SecretSource{Kind: "env", Var: "B"}}, "", "invalid network secrets: secret K: host environment variable B is not set or empty"},
		"empty":    {Secret{EnvVar: "K", Source: &SecretSource{Kind: "env", Var: "EMPTY"}}, "", "host environment variable EMPTY is not set or empty"},
		"store":    {Secret{EnvVar: "K", Source: &SecretSource{Kind: "store", Reference: "ref"}}, "", `no secret store to look up "ref" in`},
		"other":    {Secret{EnvVar: "K", Source: &SecretSource{Kind: "vault"}}, "", `kind "vault"`},
		"nothing":  {Secret{EnvVar: "K"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := SecretsConfig{Secrets: []Secret{c.secret}}
			err := cfg.Resolve(env)
			if c.err != "" {
				require.ErrorIs(t, err, secrets.ErrInvalid)
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.True(t, c.want == cfg.Secrets[0].Value)
		})
	}
}

func TestSecretValueDoesNotShow(t *testing.T) {
	t.Parallel()
	s := Secret{EnvVar: "K", Value: "s3same"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "value", s.Value, "secret", s)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&log, verb+verb+verb, s, s.Value, &s)
	}
	assert.NotContains(t, log.String(), "s3same")
	assert.NotContains(t, log.String(), fmt.Sprintf("%x", "s3same"))
}
