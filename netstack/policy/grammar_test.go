package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func group(g Group) Destination     { return Destination{KindGroup, string(g)} }
func cidr(s string) Destination     { return Destination{KindCIDR, s} }
func domain(s string) Destination   { return Destination{KindDomain, s} }
func suffixed(s string) Destination { return Destination{KindSuffix, s} }

// TestParseRules are the valid rules of §9.4.
func TestParseRules(t *testing.T) {
	t.Parallel()
	port := func(lo, hi uint16) []PortRange { return []PortRange{{lo, hi}} }
	rule := func(a Action, d Direction, to Destination, protocols []Protocol, ports []PortRange) Rule {
		if protocols == nil {
			protocols = []Protocol{}
		}
		if ports == nil {
			ports = []PortRange{}
		}
		return Rule{d, to, protocols, ports, a}
	}
	one := func(to Destination) []Rule { return []Rule{rule(Allow, Egress, to, nil, nil)} }
	tcp := []Protocol{TCP}
	for text, want := range map[string][]Rule{
		"":                               nil,
		" , ,":                           nil,
		"allow@public":                   one(group(Public)),
		"allow@any":                      one(Destination{Kind: KindAny}),
		"allow@meta":                     one(group(Metadata)),
		"allow@link-local":               one(group(LinkLocal)),
		"deny:any@host":                  {rule(Deny, Any, group(Host), nil, nil)},
		"allow@public:tcp:443":           {rule(Allow, Egress, group(Public), tcp, port(443, 443))},
		"allow@public:tcp:80-443":        {rule(Allow, Egress, group(Public), tcp, port(80, 443))},
		"allow@public:any:any":           one(group(Public)),
		"deny@198.51.100.5":              {rule(Deny, Egress, cidr("198.51.100.5/32"), nil, nil)},
		"allow@10.0.0.0/8":               one(cidr("10.0.0.0/8")),
		"allow@10.1.0.0/8":               one(cidr("10.0.0.0/8")),
		"allow@example.com:tcp:443":      {rule(Allow, Egress, domain("example.com"), tcp, port(443, 443))},
		"allow@Example.COM.":             one(domain("example.com")),
		"allow@suffix=corp.internal":     one(suffixed("corp.internal")),
		"allow@.corp.internal":           one(domain("corp.internal")), // no suffix: dots around a name mean nothing, as in 0.6.18
		"deny@*.ads.example.com":         {rule(Deny, Egress, suffixed("ads.example.com"), nil, nil)},
		"allow@domain=public":            one(domain("public")),
		"allow@[2001:db8::1]:tcp:443":    {rule(Allow, Egress, cidr("2001:db8::1/128"), tcp, port(443, 443))},
		"deny@[2001:db8::/32]:tcp":       {rule(Deny, Egress, cidr("2001:db8::/32"), tcp, nil)},
		"allow:egress@public:icmpv4":     {rule(Allow, Egress, group(Public), []Protocol{ICMPv4}, nil)},
		"allow:ingress@any:udp:0-65535":  {rule(Allow, Ingress, Destination{Kind: KindAny}, []Protocol{UDP}, port(0, 65535))},
		"deny@198.51.100.5,allow@public": {rule(Deny, Egress, cidr("198.51.100.5/32"), nil, nil), rule(Allow, Egress, group(Public), nil, nil)},
		"allow@public,, allow@private":   {rule(Allow, Egress, group(Public), nil, nil), rule(Allow, Egress, group(Private), nil, nil)},
		"allow@dns":                      {DNSRule(Allow)},
		"deny@dns:tcp":                   {rule(Deny, Egress, group(Host), tcp, port(53, 53))},
		"allow@dns:any:53":               {DNSRule(Allow)},
	} {
		got, err := ParseRules(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
		_, err = New(&Policy{Deny, Deny, got}, nil)
		assert.NoError(t, err, text)
	}
}

// TestRulesThatAreNone are the errors of §9.4.
func TestRulesThatAreNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"allow public":                    "missing '@'",
		"alow@public":                     "Did you mean `allow`?",
		"drop@public":                     `unknown action "drop"`,
		"allow:iingress@public":           "Did you mean `ingress`?",
		"allow:@public":                   "unknown direction",
		"allow@piublic":                   "Did you mean `public`?",
		"allow@":                          "ambiguous",
		"allow@public:tpc:443":            "Did you mean `tcp`?",
		"allow:ingress@public:icmpv4:any": "ICMP goes out only",
		"allow:any@public:icmpv6":         "ICMP goes out only",
		"allow@public:tcp:443-80":         "beyond the last",
		"allow@public:tcp:65536":          "ports",
		"allow@public:tcp:":               "ports",
		"allow@public:tcp:443:extra":      "too many fields",
		"allow@[192.0.2.1]:tcp:443":       "no IPv6 address",
		"allow@[example.com]:tcp:443":     "no IPv6 address",
		"allow@[2001:db8::1:tcp:443":      "missing ']'",
		"allow@[2001:db8::1]xyz":          "after ']'",
		"allow@[2001:db8::1]:tcp:1:2":     "too many fields",
		"allow@example.com:443":           "example.com:tcp:443",
		"allow@example.com:80-443":        "example.com:tcp:80-443",
		"allow@2001:db8::1":               "[2001:db8::1]",
		"allow@::1":                       "[::1]",
		"allow@10.0.0.0/33":               "no IPv4 prefix",
		"deny@*.com":                      "match every domain",
		"deny@suffix=local":               "match every domain",
		"allow@*":                         "ambiguous",
		"allow@a_b .com":                  "no label",
		"allow:ingress@dns":               "queries go out only",
		"allow@dns:icmpv4":                "udp or tcp",
		"allow@dns:udp:5353":              "port 53",
		"allow@public,deny@localhost":     "domain=localhost",
	} {
		_, err := ParseRules(text)
		assert.ErrorIs(t, err, ErrInvalid, text)
		assert.ErrorContains(t, err, want, text)
	}
}

// FuzzParseRules: what is a rule compiles, and anything else is an error of ours.
func FuzzParseRules(f *testing.F) {
	for _, s := range []string{"allow@public:tcp:443", "deny:any@[2001:db8::/32]:udp:1-2,allow@dns", "allow@*.example.com", "allow@::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rules, err := ParseRules(s)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			return
		}
		_, err = New(&Policy{Deny, Deny, rules}, nil)
		require.NoError(t, err)
	})
}
