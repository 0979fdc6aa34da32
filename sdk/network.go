package microsandbox

import (
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack"
	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
)

// PolicyAction is what a network rule does with a connection.
type PolicyAction string

// Policy actions.
const (
	PolicyActionAllow PolicyAction = "allow"
	PolicyActionDeny  PolicyAction = "deny"
)

// PolicyDirection is who opens the connections of a network rule: the guest, or a peer
// through a published port.
type PolicyDirection string

// Policy directions; the default is PolicyDirectionEgress.
const (
	PolicyDirectionEgress  PolicyDirection = "egress"
	PolicyDirectionIngress PolicyDirection = "ingress"
	PolicyDirectionAny     PolicyDirection = "any"
)

// PolicyProtocol is a protocol above IP.
type PolicyProtocol string

// Policy protocols.
const (
	PolicyProtocolTCP    PolicyProtocol = "tcp"
	PolicyProtocolUDP    PolicyProtocol = "udp"
	PolicyProtocolICMPv4 PolicyProtocol = "icmpv4"
	PolicyProtocolICMPv6 PolicyProtocol = "icmpv6"
)

// NetworkProfile is a part of the world that a policy opens.
type NetworkProfile string

// Network profiles.
const (
	NetworkProfilePublic  NetworkProfile = "public"
	NetworkProfilePrivate NetworkProfile = "private"
	NetworkProfileHost    NetworkProfile = "host"
)

// PortProtocol is what a published port speaks.
type PortProtocol string

// Port protocols; the default is PortProtocolTCP.
const (
	PortProtocolTCP PortProtocol = "tcp"
	PortProtocolUDP PortProtocol = "udp"
)

// PolicyRule is one rule of a network policy.
type PolicyRule struct {
	Action    PolicyAction
	Direction PolicyDirection
	// Destination is the other end: "*" for any, a group (loopback, private, link-local,
	// metadata, multicast, public, host), an address, a prefix, a domain, or ".suffix" for
	// a domain and all below it.
	Destination string
	// Protocol and Protocols together; none is any.
	Protocol  PolicyProtocol
	Protocols []PolicyProtocol
	// Port and Ports together, each "N" or "LOW-HIGH"; none is any. They are the guest's:
	// what it dials, or what it listens on.
	Port  string
	Ports []string

	parsed *policy.Rule // what the fields above could not say without doubt
}

// ParsePolicyRules reads rules as the flag --net-rule takes them: a list, separated by
// commas, of action[:direction]@target[:protocol[:ports]], such as
// allow@example.com:tcp:443. It fails with ErrInvalidConfig.
func ParsePolicyRules(list string) ([]PolicyRule, error) {
	parsed, err := policy.ParseRules(list)
	if err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	var rules []PolicyRule
	for _, r := range parsed {
		rules = append(rules, ruleConfig(r))
	}
	return rules, nil
}

// ruleConfig is a rule in the form of the SDK.
func ruleConfig(r policy.Rule) PolicyRule {
	c := PolicyRule{Action: PolicyAction(r.Action), Direction: PolicyDirection(r.Direction), parsed: &r}
	switch r.Destination.Kind {
	case policy.KindAny:
		c.Destination = "*"
	case policy.KindSuffix:
		c.Destination = "." + r.Destination.Value
	default:
		c.Destination = strings.ReplaceAll(r.Destination.Value, "_", "-")
		if r.Destination.Kind != policy.KindGroup {
			c.Destination = r.Destination.Value
		}
	}
	for _, p := range r.Protocols {
		c.Protocols = append(c.Protocols, PolicyProtocol(p))
	}
	for _, p := range r.Ports {
		text := strconv.Itoa(int(p.Start))
		if p.End != p.Start {
			text += "-" + strconv.Itoa(int(p.End))
		}
		c.Ports = append(c.Ports, text)
	}
	return c
}

// rule is the policy's form of r.
func (r PolicyRule) rule() (policy.Rule, error) {
	if r.parsed != nil {
		return *r.parsed, nil
	}
	to, err := ruleDestination(r.Destination)
	if err != nil {
		return policy.Rule{}, err
	}
	out := policy.Rule{
		Direction: policy.Direction(orDefault(r.Direction, PolicyDirectionEgress)), Destination: to,
		Protocols: []policy.Protocol{}, Ports: []policy.PortRange{}, Action: policy.Action(r.Action),
	}
	for _, p := range append(slices.Clone(r.Protocols), r.Protocol) {
		if p != "" && !slices.Contains(out.Protocols, policy.Protocol(p)) {
			out.Protocols = append(out.Protocols, policy.Protocol(p))
		}
	}
	for _, p := range append(slices.Clone(r.Ports), r.Port) {
		if p == "" {
			continue
		}
		low, high, ranged := strings.Cut(p, "-")
		if !ranged {
			high = low
		}
		lo, err1 := strconv.ParseUint(low, 10, 16)
		hi, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil {
			return out, fail(ErrInvalidConfig, "network rule: port %q is neither N nor LOW-HIGH", p)
		}
		out.Ports = append(out.Ports, policy.PortRange{Start: uint16(lo), End: uint16(hi)})
	}
	for _, p := range out.Protocols {
		if out.Direction != policy.Egress && (p == policy.ICMPv4 || p == policy.ICMPv6) {
			return out, fail(ErrInvalidConfig, "network rule: ICMP goes out only: use direction egress")
		}
	}
	return out, nil
}

func ruleDestination(s string) (policy.Destination, error) {
	group := policy.Group(strings.ReplaceAll(s, "-", "_"))
	switch group {
	case policy.Public, policy.Loopback, policy.Private, policy.LinkLocal, policy.Metadata, policy.Multicast, policy.Host:
		return policy.Destination{Kind: policy.KindGroup, Value: string(group)}, nil
	}
	if s == "*" || s == "any" {
		return policy.Destination{Kind: policy.KindAny}, nil
	}
	if _, err := netip.ParseAddr(s); err == nil || strings.Contains(s, "/") {
		return policy.Destination{Kind: policy.KindCIDR, Value: s}, nil
	}
	if rest, ok := strings.CutPrefix(strings.TrimPrefix(s, "*"), "."); ok {
		name, err := policy.CanonicalSuffix(rest)
		return policy.Destination{Kind: policy.KindSuffix, Value: name}, wrap(ErrInvalidConfig, err)
	}
	name, err := policy.Canonical(s)
	return policy.Destination{Kind: policy.KindDomain, Value: name}, wrap(ErrInvalidConfig, err)
}

// DNSConfig says how the sandbox's questions about names are answered.
type DNSConfig struct {
	// RebindProtection refuses answers that lead into private networks where the policy
	// does not; nil is true.
	RebindProtection *bool
	// Nameservers are asked in turn, each IP, IP:PORT, HOST or HOST:PORT; none are the
	// host's own.
	Nameservers []string
	// QueryTimeoutMs bounds the wait for each; nil is 5000.
	QueryTimeoutMs *uint64
}

// PortBinding publishes a port of the guest on the host.
type PortBinding struct {
	Bind      string // address of the host; "" is 127.0.0.1
	HostPort  uint16 // 0 is the host's choice, which Sandbox.Ports and EffectiveConfig tell
	GuestPort uint16
	Protocol  PortProtocol
}

// NetworkConfig describes the sandbox's network.
type NetworkConfig struct {
	// Rules decide on connections, the first that matches. With neither Rules nor
	// defaults, the sandbox reaches the public Internet and nothing else.
	Rules          []PolicyRule
	DefaultEgress  PolicyAction // what no rule matches; "" is deny
	DefaultIngress PolicyAction // likewise, through published ports; "" is allow
	// DenyDomains and DenyDomainSuffixes are denied before any rule is looked at.
	DenyDomains, DenyDomainSuffixes []string
	DNS                             *DNSConfig
	// DNSRebindProtection is DNS.RebindProtection where DNS is nil.
	DNSRebindProtection *bool
	// TLS has TLS intercepted; nil leaves it alone.
	TLS *TLSConfig
	// Ports publishes TCP ports on the host's loopback, host port to guest port.
	Ports        map[uint16]uint16
	PortBindings []PortBinding
	// IPv4Pool has a /30 for each sandbox, IPv6Pool a /64; "" is 172.16.0.0/12 and
	// fd42:6d73:62::/48.
	IPv4Pool, IPv6Pool string
	// MaxConnections bounds the guest's TCP connections, at most 4096; nil is 256.
	MaxConnections *uint
	// RateLimiter bounds the sandbox's traffic; nil does not.
	RateLimiter *NetworkRateLimiterConfig
	// TrustHostCAs has the guest trust the certificate authorities that the host trusts,
	// as behind a proxy that intercepts TLS; nil is false.
	TrustHostCAs *bool
	// OnSecretViolation is what becomes of the placeholder of a secret on its way to a host
	// that may not have it; "" is ViolationActionBlockAndLog.
	OnSecretViolation ViolationAction
	// Strict lets a rule about a domain allow only what can be seen to be meant for it: the
	// policy then denies what an allowed name's address merely happens to serve, such as
	// TLS that is not intercepted, and datagrams.
	Strict bool
	// OutboundProxy is what connections out of this machine go through, once the policy
	// has admitted them; nil is none. See docs/network.md for what a proxy does not carry.
	OutboundProxy *OutboundProxyConfig
}

// OutboundProxyConfig describes a SOCKS proxy.
type OutboundProxyConfig struct {
	// URL is socks4://IP:PORT or socks5://IP:PORT, without user or password.
	URL string
	// Socks4UserID identifies the user of a SOCKS4 proxy; "" sends none.
	Socks4UserID string
	// Socks5Username identifies the user of a SOCKS5 proxy, with the password that the
	// variable Socks5PasswordEnv of this process's environment has whenever the sandbox
	// starts; both or neither. The password is never stored.
	Socks5Username, Socks5PasswordEnv string
}

// NetworkRateLimiterConfig bounds a sandbox's traffic: what the guest sends, and what it
// receives. At least one is set. What is too much waits, nothing is lost.
type NetworkRateLimiterConfig struct{ Egress, Ingress *RateLimiterConfig }

// RateLimiterConfig bounds one direction by bytes of Ethernet frames, by their number, or
// both.
type RateLimiterConfig struct{ Bandwidth, Ops *TokenBucketConfig }

// TokenBucketConfig allows Size in every RefillTime, after OneTimeBurst once.
type TokenBucketConfig struct {
	Size         uint64        // at least 1
	RefillTime   time.Duration // whole milliseconds, 1 ms to a day
	OneTimeBurst uint64
}

type networkPolicyFactory struct{}

// NetworkPolicy makes NetworkConfig values.
var NetworkPolicy networkPolicyFactory

// None lets nothing out and nothing in.
func (networkPolicyFactory) None() *NetworkConfig {
	return &NetworkConfig{DefaultEgress: PolicyActionDeny, DefaultIngress: PolicyActionDeny}
}

// AllowAll lets everything out, and everything in through published ports.
func (networkPolicyFactory) AllowAll() *NetworkConfig {
	return &NetworkConfig{DefaultEgress: PolicyActionAllow, DefaultIngress: PolicyActionAllow}
}

// FromProfiles lets the guest reach parts of the world, and resolve names. It panics if a
// profile is unknown; FromProfilesChecked returns an error.
func (f networkPolicyFactory) FromProfiles(profiles ...NetworkProfile) *NetworkConfig {
	c, err := f.FromProfilesChecked(profiles...)
	if err != nil {
		panic(err)
	}
	return c
}

// FromProfilesChecked is FromProfiles that fails with ErrInvalidConfig.
func (networkPolicyFactory) FromProfilesChecked(profiles ...NetworkProfile) (*NetworkConfig, error) {
	var groups []policy.Group
	for _, p := range profiles {
		groups = append(groups, policy.Group(p))
	}
	p, err := policy.FromProfiles(groups...)
	if err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	c := &NetworkConfig{DefaultEgress: PolicyActionDeny, DefaultIngress: PolicyActionAllow}
	for _, r := range p.Rules {
		c.Rules = append(c.Rules, ruleConfig(r))
	}
	return c, nil
}

type ruleFactory struct{}

// Rule makes PolicyRule values.
var Rule ruleFactory

// AllowDNS lets the guest ask the sandbox's resolver.
func (ruleFactory) AllowDNS() PolicyRule { return ruleConfig(policy.DNSRule(policy.Allow)) }

// DenyDNS does not.
func (ruleFactory) DenyDNS() PolicyRule { return ruleConfig(policy.DNSRule(policy.Deny)) }

// WithNetwork describes the sandbox's network; nil restores the default, which reaches the
// public Internet.
func WithNetwork(n *NetworkConfig) SandboxOption { return func(c *SandboxConfig) { c.Network = n } }

// WithPorts publishes TCP ports on the host's loopback, host port to guest port.
func WithPorts(ports map[uint16]uint16) SandboxOption {
	return func(c *SandboxConfig) { c.Ports = merged(c.Ports, ports) }
}

// WithPortsUDP is WithPorts for UDP.
func WithPortsUDP(ports map[uint16]uint16) SandboxOption {
	return func(c *SandboxConfig) { c.PortsUDP = merged(c.PortsUDP, ports) }
}

func merged(into, more map[uint16]uint16) map[uint16]uint16 {
	all := maps.Clone(into)
	if all == nil {
		all = make(map[uint16]uint16, len(more))
	}
	maps.Copy(all, more)
	return all
}

// published are ports on the host's loopback.
func published(ports map[uint16]uint16, p PortProtocol) (list []PortBinding) {
	for _, host := range slices.Sorted(maps.Keys(ports)) {
		list = append(list, PortBinding{HostPort: host, GuestPort: ports[host], Protocol: p})
	}
	return list
}

// WithPortBindings publishes ports.
func WithPortBindings(list ...PortBinding) SandboxOption {
	return func(c *SandboxConfig) { c.PortBindings = append(c.PortBindings, list...) }
}

// interfaceSpec is launch.Interface without what is not set.
type interfaceSpec struct {
	IPv4Pool *string `json:"ipv4_pool,omitempty"`
	IPv6Pool *string `json:"ipv6_pool,omitempty"`
}

// networkSpec is the network of a sandbox row: what is not set stays out.
type networkSpec struct {
	Enabled        bool                   `json:"enabled"`
	Interface      *interfaceSpec         `json:"interface,omitempty"`
	Ports          []launch.PublishedPort `json:"ports"`
	Policy         *policy.Policy         `json:"policy,omitempty"`
	DNS            *launch.DNSConfig      `json:"dns,omitempty"`
	TLS            *launch.TLSConfig      `json:"tls,omitempty"`
	Strict         bool                   `json:"strict"`
	Secrets        *launch.SecretsConfig  `json:"secrets,omitempty"`
	MaxConnections *uint64                `json:"max_connections"`
	RateLimiter    *launch.RateLimiter    `json:"rate_limiter,omitempty"`
	TrustHostCAs   bool                   `json:"trust_host_cas"`
	OutboundProxy  *launch.OutboundProxy  `json:"outbound_proxy,omitempty"`
}

// networkSpec checks the configuration of the network and makes the row's form of it. It
// fails with ErrInvalidConfig.
func (c *SandboxConfig) networkSpec() (json.RawMessage, error) {
	n := networkSpec{Enabled: true, Ports: []launch.PublishedPort{}}
	bindings := slices.Concat(published(c.Ports, PortProtocolTCP), published(c.PortsUDP, PortProtocolUDP), c.PortBindings)
	if c.Network != nil {
		if err := n.configure(c.Network); err != nil {
			return nil, err
		}
		bindings = slices.Concat(bindings, published(c.Network.Ports, PortProtocolTCP), c.Network.PortBindings)
	}
	if c.DisableNetwork {
		n.Policy = policy.NoTraffic()
	}
	for _, b := range bindings {
		p, err := b.published()
		if err != nil {
			return nil, err
		}
		if p.HostPort != 0 && slices.ContainsFunc(n.Ports, func(o launch.PublishedPort) bool {
			return o.HostPort == p.HostPort && o.Protocol == p.Protocol && o.HostBind == p.HostBind
		}) {
			return nil, fail(ErrInvalidConfig, "port %d/%s of %s is published twice", p.HostPort, p.Protocol, p.HostBind)
		}
		n.Ports = append(n.Ports, p)
	}
	var err error
	if n.Secrets, err = c.secretsSpec(); err != nil {
		return nil, err
	}
	if n.Secrets != nil && n.TLS == nil {
		tls := launch.DefaultNetworkConfig().TLS
		n.TLS = &tls
	}
	if n.Secrets != nil {
		n.TLS.Enabled = true // the runtime insists on it as well
	}
	b, err := json.Marshal(n)
	return b, wrap(ErrInternal, err)
}

func (b PortBinding) published() (p launch.PublishedPort, err error) {
	addr, err := netip.ParseAddr(orDefault(b.Bind, "127.0.0.1"))
	switch {
	case err != nil || addr.Zone() != "":
		return p, fail(ErrInvalidConfig, "port %d: %q is no address to publish it at", b.GuestPort, b.Bind)
	case b.GuestPort == 0:
		return p, fail(ErrInvalidConfig, "a published port leads to a port of the guest, 1 to 65535")
	case !slices.Contains([]PortProtocol{"", PortProtocolTCP, PortProtocolUDP}, b.Protocol):
		return p, fail(ErrInvalidConfig, "port %d: unknown protocol %q: use tcp or udp", b.GuestPort, b.Protocol)
	}
	return launch.PublishedPort{
		HostPort: b.HostPort, GuestPort: b.GuestPort, Protocol: string(orDefault(b.Protocol, PortProtocolTCP)), HostBind: addr.String(),
	}, nil
}

// configure fills in what c says, but for its ports.
func (n *networkSpec) configure(c *NetworkConfig) (err error) {
	if n.Policy, err = c.policy(); err != nil {
		return err
	}
	o := netstack.Overrides{IPv4Pool: c.IPv4Pool, IPv6Pool: c.IPv6Pool}
	if _, err := netstack.Plan(0, o, netstack.Families{IPv4: true, IPv6: true}); err != nil {
		return wrap(ErrInvalidConfig, err)
	}
	if c.IPv4Pool != "" || c.IPv6Pool != "" {
		n.Interface = &interfaceSpec{pointer(c.IPv4Pool), pointer(c.IPv6Pool)}
	}
	if m := c.MaxConnections; m != nil {
		if *m == 0 || *m > netstack.MaxConnections {
			return fail(ErrInvalidConfig, "max connections %d: choose 1 to %d", *m, netstack.MaxConnections)
		}
		v := uint64(*m)
		n.MaxConnections = &v
	}
	n.TrustHostCAs, n.Strict = value(c.TrustHostCAs), c.Strict
	if n.TLS, err = c.TLS.launch(); err != nil {
		return err
	}
	if n.OutboundProxy, err = c.OutboundProxy.launch(); err != nil {
		return err
	}
	if n.RateLimiter, err = c.RateLimiter.launch(); err != nil {
		return err
	}
	d := c.DNS
	if d == nil && c.DNSRebindProtection != nil {
		d = &DNSConfig{RebindProtection: c.DNSRebindProtection}
	}
	if d != nil {
		n.DNS = &launch.DNSConfig{RebindProtection: d.RebindProtection == nil || *d.RebindProtection, Nameservers: []string{}, QueryTimeoutMS: 5000}
		if d.QueryTimeoutMs != nil {
			n.DNS.QueryTimeoutMS = *d.QueryTimeoutMs
		}
		if n.DNS.QueryTimeoutMS == 0 {
			return fail(ErrInvalidConfig, "the DNS query timeout must be at least 1 ms")
		}
		for _, s := range d.Nameservers {
			server, err := dns.ParseNameserver(s)
			if err != nil {
				return wrap(ErrInvalidConfig, err)
			}
			n.DNS.Nameservers = append(n.DNS.Nameservers, server)
		}
	}
	return nil
}

// policy is the policy that c asks for; nil is the default.
func (c *NetworkConfig) policy() (*policy.Policy, error) {
	denied := []policy.Rule{}
	deny := func(kind policy.Kind, names []string, canonical func(string) (string, error)) error {
		for _, s := range names {
			name, err := canonical(s)
			if err != nil {
				return wrap(ErrInvalidConfig, err)
			}
			denied = append(denied, policy.Rule{
				Direction: policy.Egress, Destination: policy.Destination{Kind: kind, Value: name},
				Protocols: []policy.Protocol{}, Ports: []policy.PortRange{}, Action: policy.Deny,
			})
		}
		return nil
	}
	if err := deny(policy.KindDomain, c.DenyDomains, policy.Canonical); err != nil {
		return nil, err
	}
	if err := deny(policy.KindSuffix, c.DenyDomainSuffixes, policy.CanonicalSuffix); err != nil {
		return nil, err
	}
	if len(c.Rules) == 0 && c.DefaultEgress == "" && c.DefaultIngress == "" {
		if len(denied) == 0 {
			return nil, nil
		}
		p := policy.Default()
		p.Rules = append(denied, p.Rules...)
		return p, nil
	}
	p := &policy.Policy{
		DefaultEgress:  policy.Action(orDefault(c.DefaultEgress, PolicyActionDeny)),
		DefaultIngress: policy.Action(orDefault(c.DefaultIngress, PolicyActionAllow)), Rules: denied,
	}
	for _, r := range c.Rules {
		rule, err := r.rule()
		if err != nil {
			return nil, err
		}
		p.Rules = append(p.Rules, rule)
	}
	return p, wrap(ErrInvalidConfig, p.Validate())
}

// setNetwork is the inverse of networkSpec, for the network of a row. What a later release
// may have written stays out.
func (c *SandboxConfig) setNetwork(b json.RawMessage) {
	var n launch.NetworkConfig
	if len(b) == 0 || json.Unmarshal(b, &n) != nil {
		return
	}
	c.DisableNetwork = !n.Enabled
	for _, p := range n.Ports {
		c.PortBindings = append(c.PortBindings, PortBinding{p.HostBind, p.HostPort, p.GuestPort, PortProtocol(p.Protocol)})
	}
	c.Secrets = secretEntries(n.Secrets)
	plain := launch.DefaultNetworkConfig()
	n.Ports = plain.Ports
	if reflect.DeepEqual(n, plain) {
		return
	}
	c.Network = &NetworkConfig{
		DefaultEgress: PolicyAction(n.Policy.DefaultEgress), DefaultIngress: PolicyAction(n.Policy.DefaultIngress),
		IPv4Pool: value(n.Interface.IPv4Pool), IPv6Pool: value(n.Interface.IPv6Pool),
	}
	for _, r := range n.Policy.Rules {
		c.Network.Rules = append(c.Network.Rules, ruleConfig(r))
	}
	if !reflect.DeepEqual(n.DNS, plain.DNS) {
		c.Network.DNS = &DNSConfig{RebindProtection: &n.DNS.RebindProtection, Nameservers: n.DNS.Nameservers, QueryTimeoutMs: &n.DNS.QueryTimeoutMS}
	}
	if n.MaxConnections != nil {
		m := uint(*n.MaxConnections)
		c.Network.MaxConnections = &m
	}
	c.Network.OnSecretViolation = ViolationAction(n.Secrets.OnViolation.Kind)
	c.Network.TrustHostCAs, c.Network.Strict = pointer(n.TrustHostCAs), n.Strict
	c.Network.TLS, c.Network.OutboundProxy = tlsConfig(n.TLS), proxyConfig(n.OutboundProxy)
	if l := n.RateLimiter; l != nil {
		c.Network.RateLimiter = &NetworkRateLimiterConfig{limiterConfig(l.Egress), limiterConfig(l.Ingress)}
	}
}
