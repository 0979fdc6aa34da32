package microsandbox

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack/policy"
)

func networkOf(t *testing.T, opts ...SandboxOption) (string, launch.NetworkConfig) {
	t.Helper()
	var c SandboxConfig
	for _, o := range opts {
		o(&c)
	}
	b, err := c.networkSpec()
	require.NoError(t, err)
	s := &spec{Network: b}
	n, err := s.networkConfig()
	require.NoError(t, err)
	return string(b), n.Config
}

func TestNetworkOfARow(t *testing.T) {
	const plain = `"strict":false,"max_connections":null,"trust_host_cas":false}`
	text, n := networkOf(t)
	assert.JSONEq(t, `{"enabled":true,"ports":[],`+plain, text, "as 0.6.18 has it")
	assert.Equal(t, launch.DefaultNetworkConfig(), n)
	text, _ = networkOf(t, WithNetwork(NetworkPolicy.None()), WithNetwork(nil))
	assert.JSONEq(t, `{"enabled":true,"ports":[],`+plain, text, "nil restores the default")

	text, _ = networkOf(t, WithoutNetwork())
	assert.JSONEq(t, `{"enabled":true,"ports":[],"policy":{"default_egress":"deny","default_ingress":"deny","rules":[]},`+plain, text)
	closed, _ := networkOf(t, WithNetwork(NetworkPolicy.None()))
	assert.JSONEq(t, text, closed)

	_, n = networkOf(t, WithNetwork(NetworkPolicy.AllowAll()))
	assert.Equal(t, policy.AllTraffic(), n.Policy)
	_, n = networkOf(t, WithNetwork(NetworkPolicy.FromProfiles(NetworkProfileHost, NetworkProfilePublic)))
	want, err := policy.FromProfiles(policy.Public, policy.Host)
	require.NoError(t, err)
	assert.Equal(t, want, n.Policy)

	_, n = networkOf(t, WithPorts(map[uint16]uint16{8080: 80, 443: 443}), WithPortsUDP(map[uint16]uint16{53: 5353}),
		WithPortBindings(PortBinding{Bind: "::", HostPort: 8080, GuestPort: 80}), WithNetwork(&NetworkConfig{Ports: map[uint16]uint16{9: 10}, PortBindings: []PortBinding{{GuestPort: 1}}}))
	assert.Equal(t, []launch.PublishedPort{
		{HostPort: 443, GuestPort: 443, Protocol: "tcp", HostBind: "127.0.0.1"}, {HostPort: 8080, GuestPort: 80, Protocol: "tcp", HostBind: "127.0.0.1"},
		{HostPort: 53, GuestPort: 5353, Protocol: "udp", HostBind: "127.0.0.1"}, {HostPort: 8080, GuestPort: 80, Protocol: "tcp", HostBind: "::"},
		{HostPort: 9, GuestPort: 10, Protocol: "tcp", HostBind: "127.0.0.1"}, {GuestPort: 1, Protocol: "tcp", HostBind: "127.0.0.1"},
	}, n.Ports)

	_, n = networkOf(t, WithNetwork(&NetworkConfig{
		DenyDomains: []string{"Evil.com"}, DenyDomainSuffixes: []string{"*.ads.example"}, IPv4Pool: "10.0.0.0/16", IPv6Pool: "fd00::/48", MaxConnections: pointer(uint(9)),
		DNS: &DNSConfig{Nameservers: []string{"1.1.1.1", "dns.google:5353"}, QueryTimeoutMs: pointer(uint64(100)), RebindProtection: new(bool)},
	}))
	p := policy.Default()
	deny := func(k policy.Kind, v string) policy.Rule {
		return policy.Rule{Direction: policy.Egress, Destination: policy.Destination{Kind: k, Value: v}, Protocols: []policy.Protocol{}, Ports: []policy.PortRange{}, Action: policy.Deny}
	}
	p.Rules = append([]policy.Rule{deny(policy.KindDomain, "evil.com"), deny(policy.KindSuffix, "ads.example")}, p.Rules...)
	assert.Equal(t, p, n.Policy)
	assert.Equal(t, launch.DNSConfig{Nameservers: []string{"1.1.1.1:53", "dns.google:5353"}, QueryTimeoutMS: 100}, n.DNS)
	assert.Equal(t, launch.Interface{IPv4Pool: pointer("10.0.0.0/16"), IPv6Pool: pointer("fd00::/48")}, n.Interface)
	assert.EqualValues(t, 9, *n.MaxConnections)
}

func TestRateLimits(t *testing.T) {
	limits := &NetworkRateLimiterConfig{
		Egress:  &RateLimiterConfig{Bandwidth: &TokenBucketConfig{Size: 1 << 20, RefillTime: time.Second, OneTimeBurst: 5}},
		Ingress: &RateLimiterConfig{Ops: &TokenBucketConfig{Size: 9, RefillTime: 10 * time.Millisecond}},
	}
	text, n := networkOf(t, WithNetwork(&NetworkConfig{RateLimiter: limits, TrustHostCAs: pointer(true)}))
	assert.Equal(t, &launch.RateLimiter{
		Egress:  &launch.Limiter{Bandwidth: &launch.TokenBucket{Size: 1 << 20, RefillTimeMS: 1000, OneTimeBurst: 5}},
		Ingress: &launch.Limiter{Ops: &launch.TokenBucket{Size: 9, RefillTimeMS: 10}},
	}, n.RateLimiter)
	assert.True(t, n.TrustHostCAs)
	var c SandboxConfig
	c.setNetwork(json.RawMessage(text))
	assert.Equal(t, limits, c.Network.RateLimiter)
	assert.True(t, *c.Network.TrustHostCAs)
}

func TestPolicyRules(t *testing.T) {
	for _, c := range []struct {
		rule PolicyRule
		text string // the same in the grammar of --net-rule
	}{
		{PolicyRule{Action: "allow", Destination: "*"}, "allow@any"},
		{PolicyRule{Action: "deny", Direction: "any", Destination: "host"}, "deny:any@host"},
		{PolicyRule{Action: "allow", Destination: "link-local", Protocol: "tcp", Port: "443"}, "allow@link-local:tcp:443"},
		{PolicyRule{Action: "allow", Destination: "metadata"}, "allow@meta"},
		{PolicyRule{Action: "allow", Destination: "10.0.0.0/8", Protocols: []PolicyProtocol{"udp"}, Ports: []string{"8000-9000"}}, "allow@10.0.0.0/8:udp:8000-9000"},
		{PolicyRule{Action: "allow", Destination: ".Example.com"}, "allow@*.example.com"},
		{PolicyRule{Action: "allow", Destination: "example.com.", Protocol: "tcp", Protocols: []PolicyProtocol{"tcp"}}, "allow@example.com:tcp"},
	} {
		got, err := c.rule.rule()
		require.NoError(t, err, c.text)
		want, err := policy.ParseRules(c.text)
		require.NoError(t, err)
		assert.Equal(t, want[0], got, c.text)
		parsed, err := ParsePolicyRules(c.text)
		require.NoError(t, err)
		again, err := parsed[0].rule()
		require.NoError(t, err)
		assert.Equal(t, want[0], again)
		parsed[0].parsed = nil
		again, err = parsed[0].rule()
		require.NoError(t, err)
		assert.Equal(t, want[0], again, "its fields say the same")
	}
	assert.Equal(t, PolicyRule{Action: "allow", Direction: "egress", Destination: "host", Protocols: []PolicyProtocol{"udp", "tcp"}, Ports: []string{"53"}, parsed: Rule.AllowDNS().parsed}, Rule.AllowDNS())
	assert.Equal(t, PolicyActionDeny, Rule.DenyDNS().Action)
}

func TestNetworkConfigIsChecked(t *testing.T) {
	_, err := ParsePolicyRules("alow@public")
	assert.True(t, IsKind(err, ErrInvalidConfig))
	_, err = NetworkPolicy.FromProfilesChecked("lan")
	assert.True(t, IsKind(err, ErrInvalidConfig))
	assert.Panics(t, func() { NetworkPolicy.FromProfiles("lan") })
	rule := func(r PolicyRule) SandboxOption { return WithNetwork(&NetworkConfig{Rules: []PolicyRule{r}}) }
	for name, o := range map[string]SandboxOption{
		"action":             rule(PolicyRule{Action: "drop", Destination: "*"}),
		"direction":          rule(PolicyRule{Action: "deny", Direction: "in", Destination: "*"}),
		"destination":        rule(PolicyRule{Action: "deny", Destination: "a b"}),
		"no destination":     rule(PolicyRule{Action: "deny"}),
		"prefix":             rule(PolicyRule{Action: "deny", Destination: "10.0.0.0/33"}),
		"broad suffix":       rule(PolicyRule{Action: "deny", Destination: ".com"}),
		"port":               rule(PolicyRule{Action: "deny", Destination: "*", Port: "http"}),
		"ports":              rule(PolicyRule{Action: "deny", Destination: "*", Port: "2-1"}),
		"protocol":           rule(PolicyRule{Action: "deny", Destination: "*", Protocol: "sctp"}),
		"ICMP that comes in": rule(PolicyRule{Action: "deny", Direction: "ingress", Destination: "*", Protocol: "icmpv4"}),
		"default":            WithNetwork(&NetworkConfig{DefaultEgress: "drop"}),
		"domain":             WithNetwork(&NetworkConfig{DenyDomains: []string{"http://x"}}),
		"suffix":             WithNetwork(&NetworkConfig{DenyDomainSuffixes: []string{"com"}}),
		"pool":               WithNetwork(&NetworkConfig{IPv4Pool: "10.0.0.0/31"}),
		"IPv6 pool":          WithNetwork(&NetworkConfig{IPv6Pool: "10.0.0.0/8"}),
		"no connections":     WithNetwork(&NetworkConfig{MaxConnections: new(uint)}),
		"too many":           WithNetwork(&NetworkConfig{MaxConnections: pointer(uint(4097))}),
		"name server":        WithNetwork(&NetworkConfig{DNS: &DNSConfig{Nameservers: []string{"a:b:c"}}}),
		"query timeout":      WithNetwork(&NetworkConfig{DNS: &DNSConfig{QueryTimeoutMs: new(uint64)}}),
		"limits":             WithNetwork(&NetworkConfig{RateLimiter: &NetworkRateLimiterConfig{}}),
		"refill":             WithNetwork(&NetworkConfig{RateLimiter: &NetworkRateLimiterConfig{Egress: &RateLimiterConfig{Ops: &TokenBucketConfig{Size: 1, RefillTime: time.Microsecond}}}}),
		"deployment profile": WithDeploymentProfile("tenant"),
		"bind":               WithPortBindings(PortBinding{Bind: "localhost", GuestPort: 1}),
		"guest port":         WithPorts(map[uint16]uint16{80: 0}),
		"protocol of a port": WithPortBindings(PortBinding{GuestPort: 1, Protocol: "sctp"}),
		"port twice":         WithPortBindings(PortBinding{HostPort: 1, GuestPort: 1}, PortBinding{Bind: "127.0.0.1", HostPort: 1, GuestPort: 2, Protocol: "tcp"}),
	} {
		c := SandboxConfig{Name: "x", Image: "y"}
		o(&c)
		assert.True(t, IsKind(c.validate(), ErrInvalidConfig), "%s: %v", name, c.validate())
	}
}

// TestNetworkOfAnExistingSandbox: what a row says comes back in the form of the options.
func TestNetworkOfAnExistingSandbox(t *testing.T) {
	text, _ := networkOf(t, WithPorts(map[uint16]uint16{8080: 80}), WithNetwork(&NetworkConfig{
		Rules: []PolicyRule{{Action: "allow", Destination: ".example.com", Port: "443", Protocol: "tcp"}, Rule.AllowDNS()}, IPv4Pool: "10.0.0.0/16", MaxConnections: pointer(uint(7)),
	}))
	var c SandboxConfig
	c.setNetwork(json.RawMessage(text))
	_, again := networkOf(t, WithNetwork(c.Network), WithPortBindings(c.PortBindings...))
	first, err := (&spec{Network: json.RawMessage(text)}).networkConfig()
	require.NoError(t, err)
	assert.Equal(t, first.Config, again)
	c = SandboxConfig{}
	c.setNetwork(json.RawMessage(`{"enabled":false}`))
	assert.True(t, c.DisableNetwork)
	c.setNetwork(json.RawMessage(`{"policy":7}`))
	assert.True(t, c.DisableNetwork, "what cannot be read changes nothing")
}
