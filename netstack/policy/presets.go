package policy

import "slices"

// dnsPort is the port of the gateway's resolver.
const dnsPort = 53

// NoTraffic is the policy that denies everything.
func NoTraffic() *Policy {
	return &Policy{DefaultEgress: Deny, DefaultIngress: Deny, Rules: []Rule{}}
}

// AllTraffic is the policy that allows everything.
func AllTraffic() *Policy {
	return &Policy{DefaultEgress: Allow, DefaultIngress: Allow, Rules: []Rule{}}
}

// Default is the policy of a sandbox that configures none: the profile of Public.
func Default() *Policy {
	p, _ := FromProfiles(Public)
	return p
}

// profiles are the groups that can be composed, in the order of their rules.
var profiles = [...]Group{Public, Private, Host}

// FromProfiles is the policy that lets the guest reach the named groups, which are Public,
// Private or Host, and the gateway's resolver if there is any; and that lets peers in
// through published ports.
func FromProfiles(groups ...Group) (*Policy, error) {
	p := &Policy{DefaultEgress: Deny, DefaultIngress: Allow, Rules: []Rule{}}
	for _, g := range groups {
		if !slices.Contains(profiles[:], g) {
			return nil, invalid("unknown profile %q: choose public, private or host", g)
		}
	}
	if len(groups) > 0 {
		p.Rules = append(p.Rules, DNSRule(Allow))
	}
	for _, g := range profiles {
		if slices.Contains(groups, g) {
			p.Rules = append(p.Rules, Rule{
				Direction: Egress, Destination: Destination{KindGroup, string(g)},
				Protocols: []Protocol{}, Ports: []PortRange{}, Action: Allow,
			})
		}
	}
	return p, nil
}

// DNSRule decides on queries to the gateway's resolver.
func DNSRule(a Action) Rule {
	return Rule{
		Direction: Egress, Destination: Destination{KindGroup, string(Host)},
		Protocols: []Protocol{UDP, TCP}, Ports: []PortRange{{dnsPort, dnsPort}}, Action: a,
	}
}
