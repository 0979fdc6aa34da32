package launch

import (
	"encoding/json"

	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/secrets"
)

// DefaultNetworkConfig is the network of a sandbox that configures nothing.
func DefaultNetworkConfig() NetworkConfig {
	return NetworkConfig{
		Enabled: true,
		Ports:   []PublishedPort{},
		Policy:  policy.Default(),
		DNS:     DNSConfig{RebindProtection: true, Nameservers: []string{}, QueryTimeoutMS: 5000},
		TLS: TLSConfig{
			InterceptedPorts: []uint16{443}, Bypass: []string{}, VerifyUpstream: true, BlockQUICOnIntercept: true,
			UpstreamCACert: []string{}, ScopedUpstreamCACert: []ScopedCACert{}, ScopedVerifyUpstream: []ScopedVerify{},
			Cache: TLSCache{Capacity: 1000, ValidityHours: 24},
		},
		Secrets: SecretsConfig{Secrets: []Secret{}, OnViolation: secrets.Action{Kind: secrets.KindLog}},
	}
}

// The UnmarshalJSON methods below fill in the release's defaults for keys that a
// document leaves out. The alias types have no methods, so they do not recurse.

// UnmarshalJSON reads a network object over the defaults.
func (n *NetworkConfig) UnmarshalJSON(b []byte) error {
	type plain NetworkConfig
	p := plain(DefaultNetworkConfig())
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if p.Policy == nil {
		p.Policy = policy.Default()
	}
	*n = NetworkConfig(p)
	return nil
}

// UnmarshalJSON reads the keys that are there over what t has; some have two names.
func (t *TLSConfig) UnmarshalJSON(b []byte) error {
	type plain TLSConfig
	v := struct {
		*plain
		CA     *InterceptCA    `json:"ca"`
		Scoped *[]ScopedCACert `json:"scoped_upstream_ca_certs"`
	}{plain: (*plain)(t), CA: &t.InterceptCA, Scoped: &t.ScopedUpstreamCACert}
	return json.Unmarshal(b, &v)
}

// UnmarshalJSON reads a published port: TCP on the loopback address by default.
func (p *PublishedPort) UnmarshalJSON(b []byte) error {
	type plain PublishedPort
	v := plain{Protocol: "tcp", HostBind: "127.0.0.1"}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v.Protocol {
	case "Tcp":
		v.Protocol = "tcp"
	case "Udp":
		v.Protocol = "udp"
	}
	*p = PublishedPort(v)
	return nil
}

// UnmarshalJSON reads a secret with the default injection.
func (s *Secret) UnmarshalJSON(b []byte) error {
	type plain Secret
	v := plain{Injection: secrets.DefaultInjection(), RequireTLSIdentity: true}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	v.AllowedHosts = orEmpty(v.AllowedHosts)
	*s = Secret(v)
	return nil
}
