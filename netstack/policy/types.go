package policy

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrInvalid is wrapped by every error about a policy, a rule or a name.
var ErrInvalid = errors.New("invalid network policy")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Action is what becomes of a connection.
type Action string

// The actions.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
)

// Direction is who opens a connection: the guest, or a peer through a published port.
type Direction string

// The directions of a rule.
const (
	Egress  Direction = "egress"
	Ingress Direction = "ingress"
	Any     Direction = "any"
)

// Protocol is what a flow speaks above IP.
type Protocol string

// The protocols.
const (
	TCP    Protocol = "tcp"
	UDP    Protocol = "udp"
	ICMPv4 Protocol = "icmpv4"
	ICMPv6 Protocol = "icmpv6"
)

// Group is a class of addresses; each address is in one at most.
type Group string

// The groups.
const (
	Public    Group = "public"
	Loopback  Group = "loopback"
	Private   Group = "private"
	LinkLocal Group = "link_local"
	Metadata  Group = "metadata" // of clouds
	Multicast Group = "multicast"
	Host      Group = "host" // this sandbox's gateway
)

// Kind says what a Destination is.
type Kind string

// The kinds of destination.
const (
	KindAny    Kind = "any"
	KindCIDR   Kind = "cidr" // or one address
	KindDomain Kind = "domain"
	KindSuffix Kind = "domain_suffix" // the domain and all below it
	KindGroup  Kind = "group"
)

// Destination is the other end of a flow: what the guest dials, or who dials it.
type Destination struct {
	Kind  Kind
	Value string // "" for KindAny
}

// MarshalJSON writes "any" or an object with one key.
func (d Destination) MarshalJSON() ([]byte, error) {
	if d.Kind == KindAny {
		return []byte(`"any"`), nil
	}
	return json.Marshal(map[Kind]string{d.Kind: d.Value})
}

// UnmarshalJSON reads what MarshalJSON writes. The value is not checked.
func (d *Destination) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil {
		if word != string(KindAny) {
			return fmt.Errorf("destination %q: want any, or an object", word)
		}
		*d = Destination{Kind: KindAny}
		return nil
	}
	var object map[Kind]string
	if err := json.Unmarshal(b, &object); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if len(object) != 1 {
		return fmt.Errorf("destination has %d keys, want one", len(object))
	}
	for k, v := range object {
		switch k {
		case KindCIDR, KindDomain, KindSuffix, KindGroup:
			*d = Destination{Kind: k, Value: v}
		default:
			return fmt.Errorf("destination kind %q is unknown", k)
		}
	}
	return nil
}

// PortRange is inclusive at both ends.
type PortRange struct {
	Start uint16 `json:"start"`
	End   uint16 `json:"end"`
}

// Rule is one rule. Empty Protocols or Ports match any; a rule with ports does not match
// ICMP. Ports are always the guest's side of the flow that serves: what it dials, or what
// it listens on.
type Rule struct {
	Direction   Direction   `json:"direction"`
	Destination Destination `json:"destination"`
	Protocols   []Protocol  `json:"protocols"`
	Ports       []PortRange `json:"ports"`
	Action      Action      `json:"action"`
}

// Policy is the rules, of which the first that matches decides, and what happens without
// one. Its JSON is that of the launch configuration.
type Policy struct {
	DefaultEgress  Action `json:"default_egress"`
	DefaultIngress Action `json:"default_ingress"`
	Rules          []Rule `json:"rules"`
}

// UnmarshalJSON reads a policy; what it leaves out denies.
func (p *Policy) UnmarshalJSON(b []byte) error {
	type plain Policy
	v := plain{DefaultEgress: Deny, DefaultIngress: Deny, Rules: []Rule{}}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if v.Rules == nil {
		v.Rules = []Rule{}
	}
	for i := range v.Rules {
		if v.Rules[i].Protocols == nil {
			v.Rules[i].Protocols = []Protocol{}
		}
		if v.Rules[i].Ports == nil {
			v.Rules[i].Ports = []PortRange{}
		}
	}
	*p = Policy(v)
	return nil
}
