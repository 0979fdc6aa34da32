package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack"
	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/proxy"
	"github.com/gomsb/gomsb/netstack/secrets"
	mitm "github.com/gomsb/gomsb/netstack/tls"
)

const (
	guestInterface = "eth0"
	resolvConf     = "/etc/resolv.conf" // of the host
)

// network is the guest's network; nil without one.
type network struct {
	addrs   netstack.Addresses
	gateway *netstack.Gateway
	limits  *launch.RateLimiter // nil: none
	ports   []launch.PublishedPort
	chosen  bool // a port in ports is the host's choice
	names   *policy.Index
	tls     *mitm.Interceptor // nil: nothing is intercepted

	secrets  *secrets.Store // nil: none
	violated chan struct{}  // has an element once a violation is to end the sandbox
}

// networkConfig is what the launch configuration says, the default if it says nothing; nil
// if there is to be no network.
func networkConfig(c *launch.Config) *launch.NetworkConfig {
	cfg := launch.DefaultNetworkConfig()
	if c.Network != nil {
		cfg = c.Network.Config
	}
	if !cfg.Enabled {
		return nil
	}
	if multiTenant(c) {
		restrict(&cfg)
	}
	if len(cfg.Secrets.Secrets) > 0 {
		cfg.TLS.Enabled = true // placeholders would leave unseen
	}
	return &cfg
}

// multiTenant reports that whoever configures the sandbox is not trusted with the host's
// network.
func multiTenant(c *launch.Config) bool { return c.DeploymentProfile == "multi_tenant" }

// restrict overrides what a tenant may not choose. Its policy stays, but the platform's is
// applied as well.
func restrict(cfg *launch.NetworkConfig) {
	cfg.Interface, cfg.Ports, cfg.DNS.Nameservers, cfg.DNS.RebindProtection = launch.Interface{}, nil, nil, true
	cfg.TrustHostCAs, cfg.OutboundProxy = false, nil
	most := uint64(netstack.DefaultConnections)
	if cfg.MaxConnections != nil {
		most = min(most, *cfg.MaxConnections)
	}
	cfg.MaxConnections = &most
}

// openNetwork makes the gateway that the launch configuration asks for, and opens the
// published ports; nil if there is to be no network.
func openNetwork(c *launch.Config, host netstack.Families, log *slog.Logger) (*network, error) {
	cfg := networkConfig(c)
	authority, err := authorityOf(c, cfg)
	if err != nil {
		return nil, fail(launch.StageNetwork, err)
	}
	if err := placeTrust(c.RuntimeDir, authority, cfg != nil && cfg.TrustHostCAs); err != nil {
		return nil, fail(launch.StageNetwork, fmt.Errorf("certificate authorities for the guest: %w", err))
	}
	if cfg == nil {
		return nil, nil
	}
	if cfg.RateLimiter != nil {
		if err := cfg.RateLimiter.Validate(); err != nil {
			return nil, fail(launch.StageNetwork, err)
		}
	}
	overrides, err := interfaceOf(cfg.Interface)
	if err != nil {
		return nil, fail(launch.StageNetwork, err)
	}
	n := &network{limits: cfg.RateLimiter, names: policy.NewIndex(nil), violated: make(chan struct{}, 1)}
	if n.addrs, err = netstack.Plan(uint64(c.SandboxSlot), overrides, host); err != nil {
		return nil, fail(launch.StageNetwork, err)
	}
	way, err := outboundProxy(c, cfg)
	if err != nil {
		return nil, fail(launch.StageNetwork, err)
	}
	if n.tls, err = interceptor(authority, &cfg.TLS, log); err != nil {
		return nil, fail(launch.StageNetwork, err)
	}
	if n.secrets, err = n.openSecrets(cfg.Secrets); err != nil {
		return nil, fail(launch.StageNetwork, err)
	}
	if n.gateway, err = n.newGateway(cfg, multiTenant(c), way, netstack.Limited(log)); err != nil {
		return nil, fail(launch.StageNetwork, err)
	}
	if multiTenant(c) {
		log.Warn("the deployment profile multi_tenant overrides what the configuration says of addresses, ports, name servers, rebinding, certificate authorities, outbound proxies and more than 256 connections")
	}
	n.published(cfg.Ports)
	for _, p := range n.gateway.Ports() {
		log.Info("a port is published", "host", p.Host, "guest", p.GuestPort, "protocol", string(p.Protocol))
	}
	return n, nil
}

// published notes the ports that were asked for, with the host's choice where that was left
// to it. Ports that lead nowhere stay as they were.
func (n *network) published(asked []launch.PublishedPort) {
	open := n.gateway.Ports() // in the same order
	for _, p := range asked {
		if len(open) > 0 && open[0].GuestPort == p.GuestPort && string(open[0].Protocol) == p.Protocol {
			n.chosen = n.chosen || p.HostPort == 0
			p.HostPort, open = open[0].Host.Port(), open[1:]
		}
		n.ports = append(n.ports, p)
	}
}

// dialContext opens connections to literal addresses.
type dialContext = func(ctx context.Context, network, address string) (net.Conn, error)

// outboundProxy opens what leads out of the host, where cfg has a proxy for that; nil where
// it has none.
func outboundProxy(c *launch.Config, cfg *launch.NetworkConfig) (dialContext, error) {
	if multiTenant(c) {
		return nil, nil // whatever is configured
	}
	if err := c.Network.CheckProxy(); err != nil || cfg.OutboundProxy == nil {
		return nil, err
	}
	settings, err := c.Network.OutboundProxy.Config()
	if err != nil {
		return nil, err
	}
	p, err := proxy.New(settings)
	if err != nil {
		return nil, err
	}
	return p.DialContext, nil
}

func (n *network) newGateway(cfg *launch.NetworkConfig, bounded bool, way dialContext, log *slog.Logger) (*netstack.Gateway, error) {
	addrs := n.addrs
	rules := cfg.Policy
	if rules == nil {
		rules = policy.Default()
	}
	engine, err := policy.New(rules, addrs.Gateways())
	if err != nil {
		return nil, err
	}
	if cfg.Strict {
		engine = engine.Strict()
	}
	if bounded {
		platform, err := policy.New(policy.Default(), addrs.Gateways())
		if err != nil {
			return nil, err
		}
		engine = engine.Under(platform)
	}
	g := netstack.Config{Addresses: addrs, Policy: engine, Names: n.names, Proxy: way, TLS: n.tls, Logger: log}
	if n.secrets != nil {
		g.Secrets, g.Terminate = n.secrets.Rewriter, n.violation
	}
	if cfg.MaxConnections != nil {
		g.MaxConnections = int(min(*cfg.MaxConnections, netstack.MaxConnections+1)) // too many are refused there
		if g.MaxConnections == 0 {
			return nil, fmt.Errorf("%w: max_connections 0: leave it out for the default", netstack.ErrConfig)
		}
	}
	if g.Published, err = publishedPorts(cfg.Ports); err != nil {
		return nil, err
	}
	servers, err := upstreams(cfg.DNS.Nameservers)
	if err != nil {
		return nil, err
	}
	resolver := dns.Config{
		Policy: engine, Names: g.Names, Gateway4: addrs.Gateway4, Gateway6: addrs.Gateway6, Upstreams: servers,
		Timeout: time.Duration(min(cfg.DNS.QueryTimeoutMS, maxIntervalMS)) * time.Millisecond, AllowRebinding: !cfg.DNS.RebindProtection, Proxy: way, Logger: log,
	}
	if n.tls != nil {
		resolver.TLS = n.tls.Upstream
	}
	g.Resolver = dns.New(resolver)
	return netstack.New(g)
}

// upstreams are the name servers to ask: those named, or the host's.
func upstreams(names []string) (dns.Servers, error) {
	if len(names) == 0 {
		return &dns.HostServers{Path: resolvConf}, nil
	}
	return dns.NewNamed(names)
}

func interfaceOf(i launch.Interface) (netstack.Overrides, error) {
	o := netstack.Overrides{}
	for _, s := range []struct {
		from *string
		to   *string
	}{{i.IPv4Address, &o.IPv4}, {i.IPv4Pool, &o.IPv4Pool}, {i.IPv6Address, &o.IPv6}, {i.IPv6Pool, &o.IPv6Pool}} {
		if s.from != nil {
			*s.to = *s.from
		}
	}
	if i.MTU != nil {
		o.MTU = *i.MTU
	}
	if i.MAC != nil {
		o.MAC = new([6]byte)
		for n, octet := range i.MAC {
			if octet > 255 {
				return o, fmt.Errorf("%w: hardware address with an octet of %d", netstack.ErrConfig, octet)
			}
			o.MAC[n] = byte(octet)
		}
	}
	return o, nil
}

func publishedPorts(list []launch.PublishedPort) (ports []netstack.Published, err error) {
	for _, p := range list {
		addr, err := netip.ParseAddr(p.HostBind)
		if err != nil {
			return nil, fmt.Errorf("%w: port %d is published at %q, which is no address", netstack.ErrConfig, p.HostPort, p.HostBind)
		}
		proto := policy.Protocol(p.Protocol)
		if proto != policy.TCP && proto != policy.UDP {
			return nil, fmt.Errorf("%w: port %d is published for %q: choose tcp or udp", netstack.ErrConfig, p.HostPort, p.Protocol)
		}
		if p.GuestPort == 0 {
			return nil, fmt.Errorf("%w: port %d is published for port 0 of the guest", netstack.ErrConfig, p.HostPort)
		}
		ports = append(ports, netstack.Published{Host: netip.AddrPortFrom(addr, p.HostPort), GuestPort: p.GuestPort, Protocol: proto})
	}
	return ports, nil
}

// bootstrap is what the guest is told of its network.
func (n *network) bootstrap() *proto.Network {
	address := func(guest, gateway netip.Addr, bits uint8) *proto.Address {
		if !guest.IsValid() {
			return nil
		}
		return &proto.Address{Address: proto.IP{Addr: guest}, PrefixLen: bits, Gateway: proto.IP{Addr: gateway}, DNS: &proto.IP{Addr: gateway}}
	}
	return &proto.Network{
		Interface: guestInterface, MAC: n.addrs.GuestMAC, MTU: n.addrs.MTU,
		IPv4: address(n.addrs.Guest4, n.addrs.Gateway4, netstack.PrefixLen4),
		IPv6: address(n.addrs.Guest6, n.addrs.Gateway6, netstack.PrefixLen6),
	}
}

// close ends the network, after the machine.
func (n *network) close() {
	if n != nil {
		n.gateway.Close()
	}
}
