package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// networkOf is the configuration that a command line makes.
func networkOf(line string) (*msb.SandboxConfig, error) {
	var n networking
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	n.flags(f)
	if err := f.Parse(strings.Fields(line)); err != nil {
		return nil, err
	}
	opts, err := n.options(f.Changed)
	c := &msb.SandboxConfig{}
	for _, o := range opts {
		o(c)
	}
	return c, err
}

// TestNetworkPolicies: as 0.6.18 assembles them.
func TestNetworkPolicies(t *testing.T) {
	rule := func(s string) []msb.PolicyRule {
		r, err := msb.ParsePolicyRules(s)
		require.NoError(t, err)
		return r
	}
	policy := func(egress, ingress msb.PolicyAction, rules []msb.PolicyRule) *msb.NetworkConfig {
		return &msb.NetworkConfig{DefaultEgress: egress, DefaultIngress: ingress, Rules: rules}
	}
	const x = "allow@example.com"
	for line, want := range map[string]*msb.NetworkConfig{
		"":                           {},
		"--no-net":                   policy("deny", "deny", nil),
		"--net none":                 policy("deny", "deny", nil),
		"--net all":                  policy("allow", "allow", nil),
		"--net-default deny":         policy("deny", "deny", nil),
		"--net-default allow":        policy("allow", "allow", nil),
		"--net-default-ingress deny": policy("deny", "deny", nil),
		"--net-default-egress allow": policy("allow", "allow", nil),
		"--net-default deny --net-default-ingress allow": policy("deny", "allow", nil),
		"--net-rule " + x: policy("deny", "allow", rule(x+",allow@dns,allow@public")),
		"--net-rule " + x + " --net-rule deny@host,deny@meta": policy("deny", "allow", rule(x+",deny@host,deny@meta,allow@dns,allow@public")),
		"--no-net --net-rule " + x:                            policy("deny", "deny", rule(x)),
		"--net-default deny --net-rule " + x:                  policy("deny", "deny", rule(x)),
		"--net public":                                        policy("deny", "allow", rule("allow@dns,allow@public")),
		"--net host,public --net private":                     policy("deny", "allow", rule("allow@dns,allow@public,allow@private,allow@host")),
		"--net public --net-rule " + x:                        policy("deny", "allow", rule(x+",allow@dns,allow@public")),
		"--net all --net-rule deny@meta":                      policy("allow", "allow", rule("deny@meta")),
	} {
		c, err := networkOf(line)
		require.NoError(t, err, line)
		assert.Equal(t, want, c.Network, line)
	}
	c, err := networkOf("-p 8080:80 --port [::1]:53:5353/udp --dns-nameserver 1.1.1.1 --dns-query-timeout-ms 100 --no-dns-rebind-protection --net-ipv4-pool 10.0.0.0/16 --net-ipv6-pool fd00::/48 --max-connections 9")
	require.NoError(t, err)
	assert.Equal(t, []msb.PortBinding{{HostPort: 8080, GuestPort: 80}, {Bind: "::1", HostPort: 53, GuestPort: 5353, Protocol: "udp"}}, c.PortBindings)
	no, timeout, most := false, uint64(100), uint(9)
	assert.Equal(t, &msb.NetworkConfig{
		DNS: &msb.DNSConfig{Nameservers: []string{"1.1.1.1"}, QueryTimeoutMs: &timeout, RebindProtection: &no}, IPv4Pool: "10.0.0.0/16", IPv6Pool: "fd00::/48", MaxConnections: &most,
	}, c.Network)
}

func TestLimitFlags(t *testing.T) {
	c, err := networkOf("--net-egress-bandwidth 10M/2s --net-egress-bandwidth-burst 1K --net-ingress-ops 100 --trust-host-cas --deployment-profile multi-tenant --vsock /s:5/dgram")
	require.NoError(t, err)
	yes := true
	assert.Equal(t, &msb.NetworkConfig{TrustHostCAs: &yes, RateLimiter: &msb.NetworkRateLimiterConfig{
		Egress:  &msb.RateLimiterConfig{Bandwidth: &msb.TokenBucketConfig{Size: 10 << 20, RefillTime: 2 * time.Second, OneTimeBurst: 1 << 10}},
		Ingress: &msb.RateLimiterConfig{Ops: &msb.TokenBucketConfig{Size: 100, RefillTime: time.Second}},
	}}, c.Network)
	assert.Equal(t, msb.DeploymentProfileMultiTenant, c.DeploymentProfile)
	assert.Equal(t, []msb.VsockRoute{{HostSocket: "/s", Port: 5, SocketType: "dgram"}}, c.Vsock)
}

func TestNetworkFlagsThatMakeNoSense(t *testing.T) {
	for line, want := range map[string]string{
		"--net lan":                                           `unknown --net profile "lan"; expected public, private, host, all, or none`,
		"--net public,":                                       `unknown --net profile ""`,
		"--net all,public":                                    "stands alone",
		"--net none --net none":                               "stands alone",
		"--net-default maybe":                                 "expected `allow` or `deny`",
		"--net-rule alow@public":                              "Did you mean `allow`?",
		"--net-egress-ops-burst 5":                            "were not provided:\n  --net-egress-ops <COUNT[/DURATION]>",
		"--net-ingress-bandwidth x":                           "--net-ingress-bandwidth",
		"--net-ingress-ops 5 --net-ingress-ops-burst x":       "--net-ingress-ops-burst",
		"--vsock 5":                                           "--vsock",
		"--deployment-profile x":                              "possible values: single-tenant, multi-tenant",
		"--socks4-user-id x":                                  "--socks4-user-id requires --proxy",
		"--socks5-username x --socks5-password-env PW":        "requires --proxy",
		"--proxy socks5://1.2.3.4:1 --socks5-username x":      "requires --socks5-password-env",
		"--proxy socks5://1.2.3.4:1 --socks5-password-env PW": "requires --socks5-username",
		"--proxy socks4://1.2.3.4:1 --socks4-user-id=":        "must not be empty",
		"-p 80": "port must be in format HOST:GUEST",
	} {
		_, err := networkOf(line)
		assert.ErrorContains(t, err, want, line)
	}
}

func TestProxyFlags(t *testing.T) {
	c, err := networkOf("--net-strict --proxy socks5://[::1]:1080 --socks5-username bob --socks5-password-env PW")
	require.NoError(t, err)
	assert.True(t, c.Network.Strict)
	assert.Equal(t, &msb.OutboundProxyConfig{URL: "socks5://[::1]:1080", Socks5Username: "bob", Socks5PasswordEnv: "PW"}, c.Network.OutboundProxy)
	c, err = networkOf("--proxy socks4://127.0.0.1:1080 --socks4-user-id fred")
	require.NoError(t, err)
	assert.False(t, c.Network.Strict)
	assert.Equal(t, &msb.OutboundProxyConfig{URL: "socks4://127.0.0.1:1080", Socks4UserID: "fred"}, c.Network.OutboundProxy)
}

func TestPublishedPorts(t *testing.T) {
	assert.Equal(t, []string{}, publishedPorts(&msb.SandboxConfig{}), "JSON has an array")
	c := &msb.SandboxConfig{PortBindings: []msb.PortBinding{
		{Bind: "127.0.0.1", HostPort: 8080, GuestPort: 80, Protocol: "tcp"}, {Bind: "::1", HostPort: 53, GuestPort: 5353, Protocol: "udp"},
	}}
	assert.Equal(t, []string{"127.0.0.1:8080->80/tcp", "[::1]:53->5353/udp"}, publishedPorts(c))
}
