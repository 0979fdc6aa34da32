package runtime

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack"
	"github.com/gomsb/gomsb/netstack/policy"
)

var quietLog = slog.New(slog.DiscardHandler)

// networked is a launch configuration with a network that change has adjusted.
func networked(change func(*launch.NetworkConfig)) *launch.Config {
	c := &launch.Config{SandboxSlot: 1, RuntimeDir: os.TempDir() + "/no-such-runtime-dir", Network: &launch.Network{Config: launch.DefaultNetworkConfig()}}
	if change != nil {
		change(&c.Network.Config)
	}
	return c
}

func TestNetworkOfTheGuest(t *testing.T) {
	ip := func(s string) proto.IP { return proto.IP{Addr: netip.MustParseAddr(s)} }
	at := func(guest, gateway string, bits uint8) *proto.Address {
		dns := ip(gateway)
		return &proto.Address{Address: ip(guest), PrefixLen: bits, Gateway: ip(gateway), DNS: &dns}
	}
	for name, c := range map[string]struct {
		config *launch.Config
		host   netstack.Families
		want   *proto.Network
	}{
		"both families": {networked(nil), netstack.Families{IPv4: true, IPv6: true}, &proto.Network{
			Interface: "eth0", MAC: proto.MAC{2, 0x6d, 0x73, 0, 1, 2}, MTU: 1500,
			IPv4: at("172.16.0.6", "172.16.0.5", 30), IPv6: at("fd42:6d73:62:1::2", "fd42:6d73:62:1::1", 64),
		}},
		"nothing said": {&launch.Config{SandboxSlot: 1}, netstack.Families{IPv4: true}, &proto.Network{
			Interface: "eth0", MAC: proto.MAC{2, 0x6d, 0x73, 0, 1, 2}, MTU: 1500, IPv4: at("172.16.0.6", "172.16.0.5", 30),
		}},
		"no route": {networked(nil), netstack.Families{}, &proto.Network{Interface: "eth0", MAC: proto.MAC{2, 0x6d, 0x73, 0, 1, 2}, MTU: 1500}},
		"overrides": {networked(func(c *launch.NetworkConfig) {
			c.Interface = launch.Interface{MAC: &[6]uint16{2, 1, 1, 1, 1, 255}, MTU: pointer(uint16(1400)), IPv4Pool: pointer("10.0.0.0/24"), IPv6Address: pointer("fd00::9")}
		}), netstack.Families{IPv4: true}, &proto.Network{
			Interface: "eth0", MAC: proto.MAC{2, 1, 1, 1, 1, 255}, MTU: 1400, IPv4: at("10.0.0.6", "10.0.0.5", 30), IPv6: at("fd00::9", "fd00::1", 64),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := openNetwork(c.config, c.host, quietLog)
			require.NoError(t, err)
			defer n.close()
			assert.Equal(t, c.want, n.bootstrap())
			b := bootstrapFor(&launch.Config{}, &MachineConfig{}, n)
			assert.Equal(t, "host.microsandbox.internal", b.HostAlias)
			assert.Equal(t, c.want, b.Network)
			require.NoError(t, b.Validate())
		})
	}
	n, err := openNetwork(networked(func(c *launch.NetworkConfig) { c.Enabled = false }), netstack.Families{IPv4: true}, quietLog)
	require.NoError(t, err)
	assert.Nil(t, n)
	n.close()
	assert.Nil(t, bootstrapFor(&launch.Config{}, &MachineConfig{}, n).Network)
}

func publish(host, guest uint16, protocol, bind string) launch.PublishedPort {
	return launch.PublishedPort{HostPort: host, GuestPort: guest, Protocol: protocol, HostBind: bind}
}

func TestNetworkRefuses(t *testing.T) {
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	port := uint16(busy.Addr().(*net.TCPAddr).Port)
	for name, c := range map[string]struct {
		change func(*launch.NetworkConfig)
		text   string
	}{
		"port in use":     {func(c *launch.NetworkConfig) { c.Ports = []launch.PublishedPort{publish(port, 80, "tcp", "127.0.0.1")} }, "address already in use"},
		"no bind address": {func(c *launch.NetworkConfig) { c.Ports = []launch.PublishedPort{publish(1, 80, "tcp", "localhost")} }, "localhost"},
		"protocol":        {func(c *launch.NetworkConfig) { c.Ports = []launch.PublishedPort{publish(1, 80, "sctp", "127.0.0.1")} }, "sctp"},
		"guest port 0":    {func(c *launch.NetworkConfig) { c.Ports = []launch.PublishedPort{publish(1, 0, "tcp", "127.0.0.1")} }, "port 0"},
		"connections":     {func(c *launch.NetworkConfig) { c.MaxConnections = pointer(uint64(4097)) }, "hard limit 4096"},
		"no connections":  {func(c *launch.NetworkConfig) { c.MaxConnections = pointer(uint64(0)) }, "max_connections 0"},
		"octet":           {func(c *launch.NetworkConfig) { c.Interface.MAC = &[6]uint16{2, 0, 0, 0, 0, 256} }, "256"},
		"name server":     {func(c *launch.NetworkConfig) { c.DNS.Nameservers = []string{"a:b:c"} }, "a:b:c"},
		"rule":            {func(c *launch.NetworkConfig) { c.Policy = &policy.Policy{DefaultEgress: "x", DefaultIngress: "deny"} }, `"x"`},
		"pool":            {func(c *launch.NetworkConfig) { c.Interface.IPv4Pool = pointer("10.0.0.0/30") }, "slot 1"},
		"domain of a rule": {func(c *launch.NetworkConfig) {
			c.Policy.Rules[0].Destination = policy.Destination{Kind: policy.KindDomain, Value: "a b"}
		}, "rule 1"},
		"rate limits": {func(c *launch.NetworkConfig) { c.RateLimiter = &launch.RateLimiter{} }, "neither egress nor ingress"},
		"proxy without its password": {func(c *launch.NetworkConfig) {
			c.OutboundProxy = &launch.OutboundProxy{Protocol: "socks5", Address: "127.0.0.1:1"}
		}, "not resolved"},
		"second port in use": {func(c *launch.NetworkConfig) {
			c.Ports = []launch.PublishedPort{publish(0, 80, "udp", "127.0.0.1"), publish(port, 80, "tcp", "127.0.0.1")}
		}, "127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openNetwork(networked(c.change), netstack.Families{IPv4: true}, quietLog)
			require.Error(t, err)
			assert.ErrorContains(t, err, c.text)
			var boot *launch.BootError
			require.True(t, errors.As(err, &boot))
			assert.Equal(t, launch.StageNetwork, boot.Stage)
		})
	}
	c := networked(nil)
	c.Network.OutboundProxy = &launch.ResolvedProxy{Socks5: &launch.ResolvedSocks5{Address: "127.0.0.1:1"}}
	_, err = openNetwork(c, netstack.Families{IPv4: true}, quietLog)
	assert.ErrorContains(t, err, "not configured", "it would not be used")
}

// TestChosenPorts: a port that the host chooses is known, and one that leads nowhere is not
// mistaken for another.
func TestChosenPorts(t *testing.T) {
	n, err := openNetwork(networked(func(c *launch.NetworkConfig) {
		c.Ports = []launch.PublishedPort{publish(0, 80, "tcp", "127.0.0.1"), publish(0, 81, "udp", "::1"), publish(0, 82, "udp", "127.0.0.1")}
	}), netstack.Families{IPv4: true}, quietLog)
	require.NoError(t, err)
	defer n.close()
	require.True(t, n.chosen)
	require.Len(t, n.ports, 3)
	assert.NotZero(t, n.ports[0].HostPort)
	assert.Equal(t, publish(0, 81, "udp", "::1"), n.ports[1], "the guest has no IPv6")
	assert.NotZero(t, n.ports[2].HostPort)
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(n.ports[0].HostPort))))
	require.NoError(t, err, "it is open")
	_ = c.Close()

	none, err := openNetwork(networked(nil), netstack.Families{IPv4: true}, quietLog)
	require.NoError(t, err)
	defer none.close()
	assert.False(t, none.chosen)
}

// TestMultiTenant is A9: what a tenant may not choose is overridden, and its policy bounded.
func TestMultiTenant(t *testing.T) {
	c := networked(func(c *launch.NetworkConfig) {
		c.Interface = launch.Interface{MAC: &[6]uint16{2, 1, 1, 1, 1, 1}, MTU: pointer(uint16(9000))}
		c.Ports = []launch.PublishedPort{publish(1, 80, "tcp", "0.0.0.0")}
		c.DNS = launch.DNSConfig{Nameservers: []string{"10.0.0.1:53"}}
		c.TrustHostCAs, c.MaxConnections, c.Policy = true, pointer(uint64(257)), policy.AllTraffic()
		c.OutboundProxy = &launch.OutboundProxy{Protocol: "socks5", Address: "127.0.0.1:1"}
	})
	c.Network.OutboundProxy = &launch.ResolvedProxy{Socks5: &launch.ResolvedSocks5{Address: "127.0.0.1:1"}}
	c.DeploymentProfile = "multi_tenant"
	cfg := networkConfig(c)
	want := launch.DefaultNetworkConfig()
	want.Ports, want.DNS.Nameservers, want.DNS.QueryTimeoutMS, want.MaxConnections, want.Policy = nil, nil, 0, pointer(uint64(256)), policy.AllTraffic()
	assert.Equal(t, &want, cfg)
	assert.True(t, c.Network.Config.TrustHostCAs, "the configuration itself is as it was")
	n, err := openNetwork(c, netstack.Families{IPv4: true}, quietLog)
	require.NoError(t, err)
	defer n.close()
	assert.Equal(t, uint16(1500), n.addrs.MTU)
	assert.Empty(t, n.gateway.Ports())
	way, err := outboundProxy(c, cfg)
	require.NoError(t, err)
	assert.Nil(t, way, "a tenant's proxy")
}
