package launch

import (
	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/secrets"
)

// Network is the "network" object of a configuration.
type Network struct {
	Config        NetworkConfig  `json:"config"`
	OutboundProxy *ResolvedProxy `json:"outbound_proxy"` // nil: none
}

// NetworkConfig is a sandbox's network as configured. The zero value is not the default:
// use [DefaultNetworkConfig].
type NetworkConfig struct {
	Enabled        bool            `json:"enabled"`
	Interface      Interface       `json:"interface"`
	Ports          []PublishedPort `json:"ports"`
	Policy         *policy.Policy  `json:"policy"` // nil: policy.Default
	DNS            DNSConfig       `json:"dns"`
	TLS            TLSConfig       `json:"tls"`
	Strict         bool            `json:"strict"`
	Secrets        SecretsConfig   `json:"secrets"`
	MaxConnections *uint64         `json:"max_connections"`
	RateLimiter    *RateLimiter    `json:"rate_limiter"`
	TrustHostCAs   bool            `json:"trust_host_cas"`
	OutboundProxy  *OutboundProxy  `json:"outbound_proxy"` // nil: none
}

// Interface overrides the addresses derived from the slot.
type Interface struct {
	MAC         *[6]uint16 `json:"mac"` // octets; numbers in JSON, hence not bytes
	MTU         *uint16    `json:"mtu"`
	IPv4Address *string    `json:"ipv4_address"`
	IPv4Pool    *string    `json:"ipv4_pool"`
	IPv6Address *string    `json:"ipv6_address"`
	IPv6Pool    *string    `json:"ipv6_pool"`
}

// PublishedPort forwards a host port to the guest.
type PublishedPort struct {
	HostPort  uint16 `json:"host_port"`
	GuestPort uint16 `json:"guest_port"`
	Protocol  string `json:"protocol"`  // tcp or udp
	HostBind  string `json:"host_bind"` // host address
}

// DNSConfig configures the sandbox's resolver.
type DNSConfig struct {
	RebindProtection bool     `json:"rebind_protection"`
	Nameservers      []string `json:"nameservers"` // empty: the host's
	QueryTimeoutMS   uint64   `json:"query_timeout_ms"`
}

// TLSConfig configures interception.
type TLSConfig struct {
	Enabled              bool           `json:"enabled"`
	InterceptedPorts     []uint16       `json:"intercepted_ports"`
	Bypass               []string       `json:"bypass"`
	VerifyUpstream       bool           `json:"verify_upstream"`
	BlockQUICOnIntercept bool           `json:"block_quic_on_intercept"`
	UpstreamCACert       []string       `json:"upstream_ca_cert"`
	ScopedUpstreamCACert []ScopedCACert `json:"scoped_upstream_ca_cert"`
	ScopedVerifyUpstream []ScopedVerify `json:"scoped_verify_upstream"`
	InterceptCA          InterceptCA    `json:"intercept_ca"`
	Cache                TLSCache       `json:"cache"`
}

// ScopedCACert trusts a CA file for hosts that match a pattern.
type ScopedCACert struct {
	Pattern string `json:"pattern"`
	Path    string `json:"path"`
}

// ScopedVerify turns verification on or off for hosts that match a pattern.
type ScopedVerify struct {
	Pattern string `json:"pattern"`
	Verify  bool   `json:"verify"`
}

// InterceptCA names the files of the intercepting CA; nil: the persisted one.
type InterceptCA struct {
	CertPath *string `json:"cert_path"`
	KeyPath  *string `json:"key_path"`
}

// TLSCache bounds the cache of leaf certificates.
type TLSCache struct {
	Capacity      uint64 `json:"capacity"`
	ValidityHours uint64 `json:"validity_hours"`
}

// SecretsConfig lists the secrets that the network substitutes.
type SecretsConfig struct {
	Secrets     []Secret       `json:"secrets"`
	OnViolation secrets.Action `json:"on_violation"`
}

// Secret is one secret. Value never leaves the host; it is for the launch configuration
// alone, which no disk ever sees.
type Secret struct {
	EnvVar             string                `json:"env_var"`
	Value              SecretValue           `json:"value"` // empty: Source has it
	Source             *SecretSource         `json:"source,omitempty"`
	Placeholder        string                `json:"placeholder"`
	AllowedHosts       []secrets.HostPattern `json:"allowed_hosts"`
	Injection          secrets.Injection     `json:"injection"`
	OnViolation        *secrets.Action       `json:"on_violation,omitempty"`
	RequireTLSIdentity bool                  `json:"require_tls_identity"`
}

// SecretSource says where a value came from.
type SecretSource struct {
	Kind      string `json:"kind"` // env or store
	Var       string `json:"var,omitempty"`
	Reference string `json:"reference,omitempty"`
}
