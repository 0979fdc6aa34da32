package cli

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	msb "github.com/gomsb/gomsb/sdk"
)

// interception holds the flags about TLS that is intercepted. Any of them turns it on.
type interception struct {
	on, quic        bool
	ports, bypass   []string
	cert, key       string
	trusted, scoped []string
	unverified      []string
	noVerify        bool // of a configuration file
}

func (i *interception) flags(f *pflag.FlagSet) {
	f.BoolVar(&i.on, "tls-intercept", false, "look into the guest's TLS connections; so does each of the other --tls flags")
	f.StringArrayVar(&i.ports, "tls-intercept-port", nil, "TCP port whose connections are intercepted (repeatable; default 443)")
	f.StringArrayVar(&i.bypass, "tls-bypass", nil, "host whose connections are left alone, NAME or *.DOMAIN (repeatable)")
	f.BoolVar(&i.quic, "no-block-quic", false, "let QUIC to those ports out, which cannot be intercepted")
	f.StringVar(&i.cert, "tls-intercept-ca-cert", "", "certificate of the authority that the guest is to trust, a PEM file, instead of this machine's own")
	f.StringVar(&i.key, "tls-intercept-ca-key", "", "key of that authority, a PEM file")
	f.StringArrayVar(&i.trusted, "tls-upstream-ca-cert", nil, "authority that servers may be certified by besides those that this machine trusts, a PEM file (repeatable)")
	f.StringArrayVar(&i.scoped, "tls-upstream-ca-cert-for", nil, "the same for some hosts, PATTERN=PATH (repeatable)")
	f.StringArrayVar(&i.unverified, "tls-no-verify-upstream-for", nil, "do not verify the certificates of the hosts of a pattern (repeatable)")
}

// config is what the flags ask for, nil if they do not. For secrets, which have it
// intercepted, that is whatever they say.
func (i *interception) config(changed func(string) bool, secrets bool) (*msb.TLSConfig, error) {
	if !slices.ContainsFunc([]string{
		"tls-intercept-port", "tls-bypass", "tls-intercept-ca-cert", "tls-intercept-ca-key", "tls-upstream-ca-cert", "tls-upstream-ca-cert-for",
		"tls-no-verify-upstream-for", "no-block-quic",
	}, changed) && !i.on && !secrets {
		return nil, nil
	}
	c := &msb.TLSConfig{Bypass: i.bypass, CACert: i.cert, CAKey: i.key, UpstreamCACerts: i.trusted}
	for _, p := range i.ports {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, badValue(p, withValue("tls-intercept-port"), cmp.Or(err, strconv.ErrRange))
		}
		c.InterceptedPorts = append(c.InterceptedPorts, uint16(n))
	}
	for _, s := range i.scoped {
		pattern, path, _ := strings.Cut(s, "=")
		if pattern == "" || path == "" {
			return nil, usage("invalid value '%s' for '--tls-upstream-ca-cert-for': scoped upstream CA must be in format PATTERN=PATH", s)
		}
		c.ScopedUpstreamCACerts = append(c.ScopedUpstreamCACerts, msb.ScopedUpstreamCACert{Pattern: pattern, Path: path})
	}
	for _, p := range i.unverified {
		c.ScopedVerifyUpstream = append(c.ScopedVerifyUpstream, msb.ScopedVerifyUpstream{Pattern: p})
	}
	no := false
	if i.quic {
		c.BlockQUIC = &no
	}
	if i.noVerify {
		c.VerifyUpstream = &no
	}
	return c, nil
}
