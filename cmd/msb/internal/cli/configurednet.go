package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/sandboxconf"
	msb "github.com/gomsb/gomsb/sdk"
)

// configure has a file's network count where flags say nothing. Rules of flags come
// before those of files.
func (n *networking) configure(conf *sandboxconf.Network, f *pflag.FlagSet, set setFlag) (err error) {
	if conf == nil {
		return nil
	}
	if n.configured, err = configuredPolicy(conf); err != nil {
		return err
	}
	n.ports = slices.Concat(texts(conf.Ports), n.ports)
	if !f.Changed("dns-nameserver") {
		n.nameservers = texts(conf.DNS.Nameservers)
	}
	n.tls.configure(conf.TLS)
	timeout := sandboxconf.Text("")
	if t := conf.DNS.QueryTimeout; t != "" {
		d, err := flagtype.SubSeconds(string(t))
		if err != nil {
			return fmt.Errorf("dns.query_timeout: %w", err)
		}
		timeout = sandboxconf.Text(strconv.FormatInt(d.Milliseconds(), 10))
	}
	connections := sandboxconf.Text("")
	if m := conf.MaxConnections; m != nil {
		connections = sandboxconf.Text(strconv.FormatUint(uint64(*m), 10))
	}
	// setTo sets a flag to true where the file's value is the given one.
	setTo := func(flag string, value *sandboxconf.Bool, when bool) error {
		if value == nil || bool(*value) != when {
			return nil
		}
		return set(flag, "true")
	}
	return firstError(
		set("dns-query-timeout-ms", timeout), set("max-connections", connections),
		setTo("no-dns-rebind-protection", conf.DNS.RebindProtection, false),
		setTo("net-strict", conf.Strict, true), setTo("trust-host-cas", conf.TrustHostCAs, true),
	)
}

// configure takes over what a file says about interception. Other than flags, only its
// enabled turns it on.
func (i *interception) configure(conf sandboxconf.TLS) {
	is := func(value *sandboxconf.Bool, when bool) bool { return value != nil && bool(*value) == when }
	i.on = i.on || is(conf.Enabled, true)
	i.quic = i.quic || is(conf.BlockQUIC, false)
	i.noVerify = is(conf.VerifyUpstream, false)
	i.bypass = slices.Concat(texts(conf.Bypass), i.bypass)
}

// configuredPolicy is a file's policy, nil if it has none: what it denies, what it
// allows, and, unless it allows something by name, the rules of the policy it names,
// which is public if it names none.
func configuredPolicy(conf *sandboxconf.Network) (*msb.NetworkConfig, error) {
	if conf.Policy == "" && conf.Allow == nil && conf.Deny == nil {
		return nil, nil
	}
	var base *msb.NetworkConfig
	switch conf.Policy {
	case "none":
		base = msb.NetworkPolicy.None()
	case "open":
		base = msb.NetworkPolicy.AllowAll()
	default:
		base = msb.NetworkPolicy.FromProfiles(msb.NetworkProfilePublic)
	}
	var rules []msb.PolicyRule
	for _, list := range []struct {
		action  string
		targets []sandboxconf.Text
	}{{"deny", conf.Deny}, {"allow", conf.Allow}} {
		for _, t := range list.targets {
			if strings.Contains(string(t), ",") {
				return nil, fmt.Errorf("network.%s: %q: one target an entry", list.action, t)
			}
			parsed, err := msb.ParsePolicyRules(list.action + "@" + string(t))
			if err != nil {
				return nil, err
			}
			rules = append(rules, parsed...)
		}
	}
	if len(conf.Allow) > 0 {
		base.DefaultEgress, base.Rules = msb.PolicyActionDeny, nil
	}
	base.Rules = append(rules, base.Rules...)
	return base, nil
}
