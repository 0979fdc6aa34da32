package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// rule is a Rule that was checked.
type rule struct {
	direction Direction
	kind      Kind
	prefix    netip.Prefix
	name      string
	group     Group
	protocols []Protocol
	ports     []PortRange
	allow     bool
	text      string // for people
}

// Validate reports the first thing in a policy that makes no sense; the error wraps
// ErrInvalid.
func (p *Policy) Validate() error {
	_, err := New(p, nil)
	return err
}

func compile(r *Rule) (rule, error) {
	c := rule{direction: r.Direction, kind: r.Destination.Kind, protocols: r.Protocols, ports: r.Ports, allow: r.Action == Allow, text: r.String()}
	if r.Direction != Egress && r.Direction != Ingress && r.Direction != Any {
		return c, invalid("direction %q: choose egress, ingress or any", r.Direction)
	}
	if err := checkAction(r.Action); err != nil {
		return c, err
	}
	for _, p := range r.Protocols {
		if p != TCP && p != UDP && p != ICMPv4 && p != ICMPv6 {
			return c, invalid("protocol %q: choose tcp, udp, icmpv4 or icmpv6", p)
		}
	}
	for _, p := range r.Ports {
		if p.Start > p.End {
			return c, invalid("ports %d-%d: the first is beyond the last", p.Start, p.End)
		}
	}
	return c, c.aim(r.Destination)
}

func checkAction(a Action) error {
	if a != Allow && a != Deny {
		return invalid("action %q: choose allow or deny", a)
	}
	return nil
}

// aim sets what the rule's destination says.
func (c *rule) aim(d Destination) (err error) {
	switch d.Kind {
	case KindAny:
	case KindCIDR:
		c.prefix, err = parseCIDR(d.Value)
	case KindDomain, KindSuffix:
		c.name, err = Canonical(d.Value)
	case KindGroup:
		c.group = Group(d.Value)
		if !slices.Contains([]Group{Public, Loopback, Private, LinkLocal, Metadata, Multicast, Host}, c.group) {
			err = invalid("unknown group %q", d.Value)
		}
	default:
		err = invalid("unknown kind of destination %q", d.Kind)
	}
	return err
}

// parseCIDR reads a prefix or an address, mapped ones as IPv4. Bits beyond the prefix are
// ignored.
func parseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, e := netip.ParseAddr(s)
		if e != nil {
			return p, invalid("%q is neither an address nor a prefix", s)
		}
		p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// Engine evaluates a policy. It is immutable and safe for concurrent use.
type Engine struct {
	rules           []rule
	egress, ingress bool // what happens without a rule: allowed
	gateways        []netip.Addr
	named           bool
	strict          bool
	floor           *Engine // must allow too; nil: there is none
}

// Under is the engine of a policy that another one bounds: what the guest opens must be
// allowed by both, and so must addresses that Keeps is about. The bound knows no names.
func (e *Engine) Under(floor *Engine) *Engine {
	bounded := *e
	bounded.floor = floor
	return &bounded
}

// Strict is the engine under which a rule about a name allows only what is seen to be meant
// for the name, in each request: Source.Inspected. The rule still decides; no later one and
// no default allows what it does not. Rules about addresses, and those that deny, are as
// they were.
func (e *Engine) Strict() *Engine {
	strict := *e
	strict.strict = true
	return &strict
}

// InStrictMode reports that the engine is one of Strict's.
func (e *Engine) InStrictMode() bool { return e.strict }

// New checks a policy and makes it ready to use. gateways are the addresses of the group
// Host. The error wraps ErrInvalid and says which rule is meant.
func New(p *Policy, gateways []netip.Addr) (*Engine, error) {
	if err := checkAction(p.DefaultEgress); err != nil {
		return nil, fmt.Errorf("default of egress: %w", err)
	}
	if err := checkAction(p.DefaultIngress); err != nil {
		return nil, fmt.Errorf("default of ingress: %w", err)
	}
	e := &Engine{egress: p.DefaultEgress == Allow, ingress: p.DefaultIngress == Allow, gateways: gateways}
	for i := range p.Rules {
		c, err := compile(&p.Rules[i])
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		e.named = e.named || c.byName()
		e.rules = append(e.rules, c)
	}
	return e, nil
}

// Named reports that some rule is about a domain.
func (e *Engine) Named() bool { return e.named }

func (c *rule) byName() bool { return c.kind == KindDomain || c.kind == KindSuffix }
