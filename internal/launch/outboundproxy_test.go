package launch

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/proxy"
)

// The documents of microsandbox 0.6.18 for the flags in the names.
var observedProxies = map[string]struct {
	configured, resolved string
	want                 proxy.Config
}{
	"--proxy socks5://[::1]:1080": {
		`{"protocol":"socks5","address":"[::1]:1080"}`, `{"Socks5":{"address":"[::1]:1080","credentials":null}}`,
		proxy.Config{Version: proxy.SOCKS5, Address: netip.MustParseAddrPort("[::1]:1080")},
	},
	"--socks5-username bob --socks5-password-env PW": {
		`{"protocol":"socks5","address":"10.1.2.3:1080","credentials":{"username":"bob","password":{"kind":"env","var":"PW"}}}`,
		`{"Socks5":{"address":"10.1.2.3:1080","credentials":{"username":"bob","password":"topsecret"}}}`,
		proxy.Config{Version: proxy.SOCKS5, Address: netip.MustParseAddrPort("10.1.2.3:1080"), Username: "bob", Password: "topsecret"},
	},
	"--socks4-user-id fred": {
		`{"protocol":"socks4","address":"10.1.2.3:1080","user_id":"fred"}`, `{"Socks4":{"address":"10.1.2.3:1080","user_id":"fred"}}`,
		proxy.Config{Version: proxy.SOCKS4, Address: netip.MustParseAddrPort("10.1.2.3:1080"), UserID: "fred"},
	},
}

func environment(name string) (string, bool) { return "topsecret", name == "PW" }

func TestObservedProxies(t *testing.T) {
	t.Parallel()
	for name, o := range observedProxies {
		var p OutboundProxy
		require.NoError(t, json.Unmarshal([]byte(o.configured), &p), name)
		back, err := json.Marshal(p)
		require.NoError(t, err)
		assert.JSONEq(t, o.configured, string(back), name)
		r, err := p.Resolve(environment)
		require.NoError(t, err, name)
		document, err := json.Marshal(r)
		require.NoError(t, err)
		assert.JSONEq(t, o.resolved, string(document), name)
		var read ResolvedProxy
		require.NoError(t, json.Unmarshal([]byte(o.resolved), &read))
		cfg, err := read.Config()
		require.NoError(t, err, name)
		assert.Equal(t, o.want, cfg, name)
	}
}

func TestBadProxies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"protocol":"http","address":"1.2.3.4:80"}`:                                                                                                     `"http"`,
		`{"protocol":"socks5","address":"host:80"}`:                                                                                                      `"host:80"`,
		`{"protocol":"socks5","address":"1.2.3.4:0"}`:                                                                                                    "port",
		`{"protocol":"socks5","address":"1.2.3.4:1","user_id":"x"}`:                                                                                      "socks4",
		`{"protocol":"socks4","address":"1.2.3.4:1","user_id":""}`:                                                                                       "must not be empty",
		`{"protocol":"socks4","address":"1.2.3.4:1","credentials":{"username":"u","password":{"kind":"env","var":"PW"}}}`:                                "socks5",
		`{"protocol":"socks5","address":"1.2.3.4:1","credentials":{"username":"u","password":{"kind":"env","var":"NOPE"}}}`:                              "host environment variable NOPE is not set",
		`{"protocol":"socks5","address":"1.2.3.4:1","credentials":{"username":"u","password":{"kind":"store","reference":"a"}}}`:                         `"store"`,
		`{"protocol":"socks5","address":"1.2.3.4:1","credentials":{"username":"","password":{"kind":"env","var":"PW"}}}`:                                 "empty credentials",
		`{"protocol":"socks5","address":"1.2.3.4:1","credentials":{"username":"` + strings.Repeat("x", 256) + `","password":{"kind":"env","var":"PW"}}}`: "255",
	} {
		var p OutboundProxy
		require.NoError(t, json.Unmarshal([]byte(text), &p), text)
		_, err := p.Resolve(environment)
		require.ErrorIs(t, err, proxy.ErrConfig, text)
		assert.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "topsecret")
	}
	for _, text := range []string{`{}`, `{"Socks4":{"address":"1.2.3.4:1"},"Socks5":{"address":"1.2.3.4:1"}}`, `{"Socks5":{}}`} {
		var r ResolvedProxy
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		_, err := r.Config()
		assert.ErrorIs(t, err, proxy.ErrConfig, text)
	}
}

// TestProxyIsResolved: no sandbox starts that has half of a proxy.
func TestProxyIsResolved(t *testing.T) {
	t.Parallel()
	p, r := &OutboundProxy{}, &ResolvedProxy{}
	assert.NoError(t, (*Network)(nil).CheckProxy())
	assert.NoError(t, (&Network{}).CheckProxy())
	assert.NoError(t, (&Network{Config: NetworkConfig{Enabled: true, OutboundProxy: p}, OutboundProxy: r}).CheckProxy())
	assert.NoError(t, (&Network{Config: NetworkConfig{OutboundProxy: p}}).CheckProxy(), "without a network")
	assert.ErrorIs(t, (&Network{Config: NetworkConfig{Enabled: true, OutboundProxy: p}}).CheckProxy(), proxy.ErrConfig)
	assert.ErrorIs(t, (&Network{Config: NetworkConfig{Enabled: true}, OutboundProxy: r}).CheckProxy(), proxy.ErrConfig)
}

// TestPasswordIsRedacted: whatever is printed.
func TestPasswordIsRedacted(t *testing.T) {
	t.Parallel()
	c := ResolvedCredentials{"bob", "topsecret"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.NotContains(t, fmt.Sprintf(format, c), "topsecret")
		assert.NotContains(t, fmt.Sprintf(format, &c), "topsecret")
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("proxy", "credentials", c, "behind a pointer", &c)
	assert.NotContains(t, b.String(), "topsecret")
}
