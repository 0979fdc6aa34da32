package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	msb "github.com/gomsb/gomsb/sdk"
)

// networking holds the flags about a new sandbox's network.
type networking struct {
	profiles, rules    []string
	none               bool
	byDefault          string
	egress, ingress    string
	ports, nameservers []string
	queryTimeout       uint64
	rebinding          bool
	ipv4Pool, ipv6Pool string
	connections        uint
	trustHost          bool
	vsock              []string
	profile            string
	limits             [2]limitFlags // egress, ingress
	strict             bool
	proxy              msb.OutboundProxyConfig
	tls                interception
	secrets            []string
	onViolation        string
	configured         *msb.NetworkConfig // policy of configuration files, nil for none
	configuredSecrets  bool               // they have some
}

func (n *networking) flags(f *pflag.FlagSet) {
	f.StringArrayVarP(&n.ports, "port", "p", nil, "publish a port of the guest, [BIND:]HOST:GUEST[/tcp|/udp] (repeatable)")
	f.StringArrayVar(&n.profiles, "net", nil, "what the guest may reach: public, private and host, separated by commas, or all or none (default public)")
	f.BoolVar(&n.none, "no-net", false, "let nothing out and nothing in but by --net-rule")
	f.StringArrayVar(&n.rules, "net-rule", nil, "a rule that comes before the others, such as allow@example.com:tcp:443 (repeatable)")
	f.StringVar(&n.byDefault, "net-default", "", "what no rule matches: allow or deny, both ways")
	f.StringVar(&n.egress, "net-default-egress", "", "the same of what the guest opens (default deny)")
	f.StringVar(&n.ingress, "net-default-ingress", "", "the same of what comes through published ports (default allow)")
	f.StringArrayVar(&n.nameservers, "dns-nameserver", nil, "name server to ask instead of the host's, IP[:PORT] or HOST[:PORT] (repeatable)")
	f.Uint64Var(&n.queryTimeout, "dns-query-timeout-ms", 0, "how long a name server may take (default 5000)")
	f.BoolVar(&n.rebinding, "no-dns-rebind-protection", false, "let public names lead into private networks")
	f.StringVar(&n.ipv4Pool, "net-ipv4-pool", "", "addresses for sandboxes, a /30 each (default 172.16.0.0/12)")
	f.StringVar(&n.ipv6Pool, "net-ipv6-pool", "", "the same of IPv6, a /64 each (default fd42:6d73:62::/48)")
	f.StringArrayVar(&n.vsock, "vsock", nil, "lead a vsock port of the guest's host to a Unix socket here, PATH:PORT (repeatable)")
	f.BoolVar(&n.trustHost, "trust-host-cas", false, "have the guest trust the certificate authorities that this machine trusts")
	f.BoolVar(&n.strict, "net-strict", false, "let rules about domains allow only requests that can be seen to be meant for them")
	f.StringVar(&n.proxy.URL, "proxy", "", "go through this proxy with all that leaves this machine, socks4://IP:PORT or socks5://IP:PORT")
	f.StringVar(&n.proxy.Socks4UserID, "socks4-user-id", "", "user ID for a SOCKS4 proxy")
	f.StringVar(&n.proxy.Socks5Username, "socks5-username", "", "user name for a SOCKS5 proxy")
	f.StringVar(&n.proxy.Socks5PasswordEnv, "socks5-password-env", "", "variable of this environment that has the SOCKS5 password")
	n.tls.flags(f)
	f.StringArrayVar(&n.secrets, "secret", nil, "let the guest use, but not see, the value that a variable of this environment has: ENV@HOST[,HOST...], hosts as example.com, *.example.com or * (repeatable; has TLS intercepted)")
	f.StringVar(&n.onViolation, "on-secret-violation", "", "what becomes of a secret on its way to another host: block, block-and-log, block-and-terminate or passthrough (default block-and-log)")
	f.StringVar(&n.profile, "deployment-profile", "", "single-tenant, or multi-tenant for configurations of people who are not trusted with this machine's network")
	for i, direction := range directions {
		n.limits[i].flags(f, direction)
	}
	f.UintVar(&n.connections, "max-connections", 0, "how many TCP connections the guest may have (default 256)")
	for _, other := range []string{"net-default", "net-default-egress", "net-default-ingress"} {
		exclusive(f, "net", other)
		exclusive(f, "no-net", other)
	}
	exclusive(f, "net", "no-net")
}

// published turns the flags about ports into options for the sdk.
func (n *networking) published() (opts []msb.SandboxOption, err error) {
	for _, p := range n.ports {
		bind, host, guest, udp, err := flagtype.Port(p)
		if err != nil {
			return nil, err
		}
		b := msb.PortBinding{Bind: bind, HostPort: host, GuestPort: guest}
		if udp {
			b.Protocol = msb.PortProtocolUDP
		}
		opts = append(opts, msb.WithPortBindings(b))
	}
	return opts, nil
}

// options turns the flags into options for the sdk.
func (n *networking) options(changed func(string) bool) ([]msb.SandboxOption, error) {
	opts, err := n.published()
	if err != nil {
		return nil, err
	}
	for _, v := range n.vsock {
		path, port, dgram, err := flagtype.Vsock(v)
		if err != nil {
			return nil, err
		}
		r := msb.VsockRoute{HostSocket: path, Port: port}
		if dgram {
			r.SocketType = msb.VsockSocketTypeDgram
		}
		opts = append(opts, msb.WithVsock(r))
	}
	cfg, err := n.policy(changed)
	if err != nil {
		return nil, err
	}
	for _, v := range n.secrets {
		env, hosts, err := flagtype.Secret(v)
		if err != nil {
			return nil, err
		}
		opts = append(opts, msb.WithSecrets(msb.Secret.FromEnv(env, msb.SecretEnvOptions{AllowHostPatterns: hosts})))
	}
	if err := expect("violation action", n.onViolation, "block", "block-and-log", "block-and-terminate", "passthrough"); err != nil {
		return nil, err
	}
	cfg.OnSecretViolation = msb.ViolationAction(n.onViolation)
	cfg.IPv4Pool, cfg.IPv6Pool, cfg.Strict = n.ipv4Pool, n.ipv6Pool, n.strict
	if cfg.OutboundProxy, err = n.outboundProxy(changed); err != nil {
		return nil, err
	}
	if cfg.TLS, err = n.tls.config(changed, len(n.secrets) > 0 || n.configuredSecrets); err != nil {
		return nil, err
	}
	if changed("max-connections") {
		cfg.MaxConnections = &n.connections
	}
	if len(n.nameservers) > 0 || changed("dns-query-timeout-ms") || n.rebinding {
		protection := !n.rebinding
		cfg.DNS = &msb.DNSConfig{Nameservers: n.nameservers, RebindProtection: &protection}
		if changed("dns-query-timeout-ms") {
			cfg.DNS.QueryTimeoutMs = &n.queryTimeout
		}
	}
	if n.trustHost {
		cfg.TrustHostCAs = &n.trustHost
	}
	if cfg.RateLimiter, err = n.rateLimiter(); err != nil {
		return nil, err
	}
	if err := oneOf("deployment-profile", n.profile, "single-tenant", "multi-tenant"); err != nil {
		return nil, err
	}
	return append(opts, msb.WithNetwork(cfg), msb.WithDeploymentProfile(msb.DeploymentProfile(n.profile))), nil
}

// outboundProxy is the proxy that the flags ask for, nil for none.
func (n *networking) outboundProxy(changed func(string) bool) (*msb.OutboundProxyConfig, error) {
	for _, f := range [...]struct{ flag, needs string }{
		{"socks4-user-id", "proxy"}, {"socks5-username", "proxy"}, {"socks5-password-env", "proxy"},
		{"socks5-username", "socks5-password-env"}, {"socks5-password-env", "socks5-username"},
	} {
		if changed(f.flag) && !changed(f.needs) {
			return nil, usage("--%s requires --%s", f.flag, f.needs)
		}
	}
	if changed("socks4-user-id") && n.proxy.Socks4UserID == "" {
		return nil, usage("invalid SOCKS4 user ID: must not be empty")
	}
	if changed("socks5-username") && (n.proxy.Socks5Username == "" || n.proxy.Socks5PasswordEnv == "") {
		return nil, usage("invalid SOCKS5 credentials: the user name and the variable must not be empty")
	}
	if !changed("proxy") {
		return nil, nil
	}
	return &n.proxy, nil
}

// policy is the policy that the flags ask for, as microsandbox 0.6.18 assembles it: rules
// come first, then those of the profiles, which are the public one where neither profiles
// nor defaults are given.
func (n *networking) policy(changed func(string) bool) (*msb.NetworkConfig, error) {
	defaults := changed("net-default") || changed("net-default-egress") || changed("net-default-ingress")
	for flag, value := range map[string]string{"net-default": n.byDefault, "net-default-egress": n.egress, "net-default-ingress": n.ingress} {
		if value != "" && value != "allow" && value != "deny" {
			return nil, fmt.Errorf("unknown --%s value %q; expected `allow` or `deny`", flag, value)
		}
	}
	var err error
	var rules []msb.PolicyRule
	for _, r := range n.rules {
		parsed, err := msb.ParsePolicyRules(r)
		if err != nil {
			return nil, fmt.Errorf("invalid value '%s' for '--net-rule': %w", r, err)
		}
		rules = append(rules, parsed...)
	}
	var cfg *msb.NetworkConfig
	switch {
	case len(n.profiles) > 0:
		if cfg, err = profile(n.profiles); err != nil {
			return nil, err
		}
	case n.none:
		cfg = msb.NetworkPolicy.None()
	case defaults:
		cfg = &msb.NetworkConfig{
			DefaultEgress:  msb.PolicyAction(firstOf(n.egress, n.byDefault, "deny")),
			DefaultIngress: msb.PolicyAction(firstOf(n.ingress, n.byDefault, "allow")),
		}
	case n.configured != nil:
		cfg = n.configured
	case len(rules) == 0:
		return &msb.NetworkConfig{}, nil
	default:
		cfg = msb.NetworkPolicy.FromProfiles(msb.NetworkProfilePublic)
	}
	cfg.Rules = append(rules, cfg.Rules...)
	return cfg, nil
}

func firstOf(words ...string) string {
	return words[slices.IndexFunc(words, func(s string) bool { return s != "" })]
}

// profile is the policy of the values of --net.
func profile(values []string) (*msb.NetworkConfig, error) {
	words := strings.Split(strings.Join(values, ","), ",")
	var profiles []msb.NetworkProfile
	for _, w := range words {
		w = strings.TrimSpace(w)
		switch w {
		case "public", "private", "host":
			profiles = append(profiles, msb.NetworkProfile(w))
		case "all", "none":
			if len(words) > 1 {
				return nil, fmt.Errorf("--net profile \"%s\" stands alone", w)
			}
			if w == "all" {
				return msb.NetworkPolicy.AllowAll(), nil
			}
			return msb.NetworkPolicy.None(), nil
		default:
			return nil, fmt.Errorf("unknown --net profile \"%s\"; expected public, private, host, all, or none", w)
		}
	}
	return msb.NetworkPolicy.FromProfiles(profiles...), nil
}
