package launch

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/netstack/policy"
)

// document returns the plain observed configuration with some keys replaced; a nil value
// deletes the key.
func document(t *testing.T, changes map[string]any) []byte {
	t.Helper()
	var doc map[string]any
	require.NoError(t, json.Unmarshal(observations(t)["run-plain.json"].FD96, &doc))
	for k, v := range changes {
		if v == nil {
			delete(doc, k)
		} else {
			doc[k] = v
		}
	}
	b, err := json.Marshal(doc)
	require.NoError(t, err)
	return b
}

func TestDecodeRefuses(t *testing.T) {
	for name, changes := range map[string]map[string]any{
		"missing socket":         {"agent_sock": nil},
		"missing metrics":        {"metrics": nil},
		"relative log directory": {"log_dir": "logs"},
		"placement":              {"cpu_placement": "everywhere"},
		"huge pages":             {"thp": "sometimes"},
		"profile without body":   {"placement_profile_name": "p"},
		"path and disk":          {"rootfs": map[string]any{"path": "/a", "disk": "/b"}},
		"bad disk":               {"disks": []string{"a:b"}},
		"slot beyond 16 bits":    {"sandbox_slot": 65536},
		"negative slot":          {"sandbox_slot": -1},
		"wrong type":             {"mounts": "x"},
		"empty command":          {"startup": map[string]any{"cmd": ""}},
		"bootstrap":              {"bootstrap": map[string]any{"block_root": map[string]any{"kind": "nfs"}}},
		"destination":            {"network": map[string]any{"config": map[string]any{"policy": map[string]any{"rules": []any{map[string]any{"destination": "none"}}}}}},
	} {
		_, err := Decode(document(t, changes))
		assert.ErrorIs(t, err, ErrConfig, name)
		assert.ErrorIs(t, err, ErrUsage, name)
	}
	for _, text := range []string{"", "null", "[]", "{", "{}"} {
		_, err := Decode([]byte(text))
		assert.ErrorIs(t, err, ErrConfig, text)
	}
}

func TestTextIsUTF8(t *testing.T) {
	for at, change := range map[string]func(*Config){
		"log_dir":      func(c *Config) { c.LogDir += "/hush\xff" },
		"init_path":    func(c *Config) { s := "/bin/hush\xff"; c.InitPath = &s },
		"exec_args[1]": func(c *Config) { c.ExecArgs = []string{"a", "hush\xff"} },
		"bootstrap.default_env[0].value": func(c *Config) {
			c.Bootstrap.DefaultEnv = []proto.EnvVar{{Key: "A", Value: "hush\xff"}}
		},
		"network.config.secrets.secrets[0].value": func(c *Config) {
			c.Network = &Network{}
			c.Network.Config.Secrets.Secrets = []Secret{{EnvVar: "A", Value: "hush\xff"}}
		},
	} {
		c, err := Decode(document(t, nil))
		require.NoError(t, err)
		_, err = c.Encode()
		require.NoError(t, err, at)
		change(c)
		_, err = c.Encode()
		assert.ErrorIs(t, err, ErrConfig, at)
		assert.ErrorContains(t, err, ": "+at+" is not UTF-8")
		assert.NotContains(t, err.Error(), "hush", "it may be a secret")
	}
}

func TestDecodeDefaults(t *testing.T) {
	c, err := Decode(document(t, map[string]any{
		"thp": nil, "run_dir": nil, "deployment_profile": nil, "vsock": nil, "file_mounts": nil, "startup": nil,
		"network": nil, "block_writeback_limit_bytes": nil, "a_key_of_the_future": 1,
	}))
	require.NoError(t, err)
	assert.Equal(t, "madvise", c.THP)
	assert.Equal(t, "single_tenant", c.DeploymentProfile)
	assert.Nil(t, c.Network)
	assert.Equal(t, "/home/u/.microsandbox/run", c.Run())
}

func TestNetworkDefaults(t *testing.T) {
	decode := func(s string) (n NetworkConfig) {
		require.NoError(t, json.Unmarshal([]byte(s), &n))
		return n
	}
	assert.Equal(t, DefaultNetworkConfig(), decode(`{}`))
	assert.Equal(t, policy.NoTraffic(), decode(`{"policy":{}}`).Policy)
	assert.Equal(t, []PublishedPort{{HostPort: 8080, GuestPort: 80, Protocol: "tcp", HostBind: "127.0.0.1"}},
		decode(`{"ports":[{"host_port":8080,"guest_port":80}]}`).Ports)
	assert.Equal(t, "udp", decode(`{"ports":[{"host_port":1,"guest_port":2,"protocol":"Udp"}]}`).Ports[0].Protocol)
	n := decode(`{"tls":{"enabled":true},"dns":{"query_timeout_ms":3000}}`)
	assert.True(t, n.TLS.VerifyUpstream)
	assert.Equal(t, []uint16{443}, n.TLS.InterceptedPorts)
	assert.Equal(t, uint64(3000), n.DNS.QueryTimeoutMS)
	n = decode(`{"tls":{"ca":{"cert_path":"/c"},"scoped_upstream_ca_certs":[{"pattern":"a","path":"/p"}],"bypass":["b"]}}`)
	want := DefaultNetworkConfig().TLS
	cert := "/c"
	want.InterceptCA.CertPath, want.ScopedUpstreamCACert, want.Bypass = &cert, []ScopedCACert{{"a", "/p"}}, []string{"b"}
	assert.Equal(t, want, n.TLS)
	b, err := json.Marshal(n.TLS)
	require.NoError(t, err)
	assert.NotContains(t, string(b), `"ca"`)
	assert.True(t, n.DNS.RebindProtection)
	s := decode(`{"secrets":{"secrets":[{"env_var":"A","placeholder":"$A"}]}}`).Secrets.Secrets[0]
	assert.True(t, s.Injection.Headers && s.Injection.BasicAuth && s.RequireTLSIdentity)
	assert.False(t, s.Injection.Body || s.Injection.QueryParams)
}

func TestRateLimiters(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"egress":{"bandwidth":{"size":1,"refill_time_ms":1}}}`:                                    true,
		`{"ingress":{"ops":{"size":1,"refill_time_ms":86400000,"one_time_burst":5}},"egress":null}`: true,
		`{}`:             false,
		`{"ingress":{}}`: false,
		`{"egress":{"ops":{"size":0,"refill_time_ms":1}}}`:                                                       false,
		`{"egress":{"ops":{"size":1}}}`:                                                                          false,
		`{"egress":{"ops":{"size":1,"refill_time_ms":86400001}}}`:                                                false,
		`{"egress":{"ops":{"size":1,"refill_time_ms":1}},"ingress":{"bandwidth":{"size":0,"refill_time_ms":1}}}`: false,
	} {
		var r RateLimiter
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		err := r.Validate()
		assert.Equal(t, ok, err == nil, text)
		if !ok {
			assert.ErrorIs(t, err, ErrConfig)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"db_path":"/a","mounts":["a:b:ro,quota=1"],"disks":["a:b:raw:ro"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			assert.ErrorIs(t, err, ErrConfig)
			return
		}
		out, err := c.Encode()
		require.NoError(t, err)
		again, err := Decode(out)
		require.NoError(t, err)
		twice, err := again.Encode()
		require.NoError(t, err)
		assert.JSONEq(t, string(out), string(twice))
	})
}
