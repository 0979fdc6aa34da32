package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Resolved tells which names an address was resolved from; *Index is one.
type Resolved interface {
	// Bound reports whether a name bound to the address fits m.
	Bound(a netip.Addr, m Matcher) bool
}

// Matcher decides on canonical names.
type Matcher interface{ Fits(name string) bool }

// Flow is what a decision is about: for egress where the guest wants to go, for ingress
// the peer's address and the guest's port.
type Flow struct {
	Protocol Protocol
	Addr     netip.Addr
	Port     uint16 // 0 for ICMP
}

func (f Flow) icmp() bool { return f.Protocol == ICMPv4 || f.Protocol == ICMPv6 }

// Source is where the name of a flow's destination comes from. Its zero value is the
// index alone.
type Source struct {
	deferred  bool
	inspected bool
	sni       string
}

// ByIndex judges by the index alone: for what carries no name.
func ByIndex() Source { return Source{} }

// BySNI judges by the canonical name in a TLS ClientHello, which must be bound to the
// address where a rule is to allow.
func BySNI(name string) Source { return Source{sni: name} }

// Deferred leaves the decision open where the name, which is not known yet, matters.
func Deferred() Source { return Source{deferred: true} }

// Inspected is s where every request on the connection is held to the name in s: what is in
// TLS is seen, and refused if it is meant for another. Only that satisfies a rule about a
// name in strict mode.
func (s Source) Inspected() Source {
	s.inspected = s.sni != ""
	return s
}

// Verdict is the outcome of an evaluation.
type Verdict uint8

// Verdicts. Defer comes only of a Deferred source.
const (
	Denied Verdict = iota
	Allowed
	Defer
)

// Decision is a verdict and what led to it.
type Decision struct {
	Verdict Verdict
	// Rule is the number of the rule that decided, from 1; 0 is the default, and
	// FloorRule the bound of the platform.
	Rule int
	// Opaque says that the rule would have allowed what it can be seen to be meant for, but
	// this cannot be seen into. See Engine.Strict.
	Opaque bool

	text string // the rule
}

// FloorRule stands for the bound that Engine.Under sets.
const FloorRule = -1

// Allowed reports that the flow may pass now.
func (d Decision) Allowed() bool { return d.Verdict == Allowed }

// String says for a log what decided.
func (d Decision) String() string {
	word := [...]string{Denied: "denied", Allowed: "allowed", Defer: "deferred"}[d.Verdict]
	switch {
	case d.Rule == 0:
		return word + " by default"
	case d.Rule == FloorRule:
		return word + " by the platform"
	case d.Opaque:
		return fmt.Sprintf("%s in strict mode: nothing shows that this is meant for the name in rule %d, %s (have TLS on this port intercepted, without a bypass for this host)", word, d.Rule, d.text)
	}
	return fmt.Sprintf("%s by rule %d, %s", word, d.Rule, d.text)
}

// byDefault is the decision where no rule matches.
func byDefault(allow bool) Decision { return verdict(allow, Decision{}) }

// decide is the decision of rule i.
func (e *Engine) decide(allow bool, i int) Decision {
	return verdict(allow, Decision{Rule: i + 1, text: e.rules[i].text})
}

func verdict(allow bool, d Decision) Decision {
	if allow {
		d.Verdict = Allowed
	}
	return d
}

// Egress decides on a flow that the guest opens.
func (e *Engine) Egress(f Flow, s Source, names Resolved) Decision {
	d := e.egressOf(f, s, names)
	if e.floor != nil && d.Verdict != Denied && !e.floor.Egress(f, ByIndex(), names).Allowed() {
		return Decision{Rule: FloorRule}
	}
	return d
}

// egressOf is Egress without the floor.
func (e *Engine) egressOf(f Flow, s Source, names Resolved) Decision {
	f.Addr = Unwrap(f.Addr)
	for i := range e.rules {
		r := &e.rules[i]
		if r.direction == Ingress || !r.admits(f) {
			continue
		}
		if r.byName() && s.deferred {
			if e.undecided(i, f, names) {
				return Decision{Verdict: Defer, Rule: i + 1, text: r.text}
			}
			if !r.allow {
				return e.decide(false, i)
			}
			continue
		}
		if e.matches(r, f, s, names) {
			opaque := e.strict && r.allow && r.byName() && !s.inspected
			d := e.decide(r.allow && !opaque, i)
			d.Opaque = opaque
			return d
		}
	}
	return byDefault(e.egress)
}

// undecided reports that rule i, which is about a name, keeps the decision open: an allow
// rule if its name is bound to the address, a deny rule if a later rule could allow.
func (e *Engine) undecided(i int, f Flow, names Resolved) bool {
	if r := &e.rules[i]; r.allow {
		return names.Bound(f.Addr, r)
	}
	for j := i + 1; j < len(e.rules); j++ {
		r := &e.rules[j]
		switch {
		case r.direction == Ingress || !r.admits(f):
		case r.byName():
			if r.allow && names.Bound(f.Addr, r) {
				return true
			}
		case e.matchesAddr(r, f.Addr):
			return r.allow
		}
	}
	return e.egress
}

// Ingress decides on a flow from a peer to a published port.
func (e *Engine) Ingress(f Flow, names Resolved) Decision {
	f.Addr = Unwrap(f.Addr)
	for i := range e.rules {
		r := &e.rules[i]
		if r.direction != Egress && r.admits(f) && e.matches(r, f, ByIndex(), names) {
			return e.decide(r.allow, i)
		}
	}
	return byDefault(e.ingress)
}

// Query decides on a question about a canonical name, "" if it has none that is valid, to
// the gateway's resolver over a protocol to a port.
func (e *Engine) Query(name string, p Protocol, port uint16) Decision {
	f := Flow{Protocol: p, Port: port}
	for i := range e.rules {
		r := &e.rules[i]
		if r.direction == Ingress {
			continue
		}
		var hit bool
		switch r.kind {
		case KindAny:
			hit = r.admits(f)
		case KindGroup:
			hit = r.group == Host && r.admits(f)
		case KindDomain, KindSuffix: // whatever the protocol and port are that it is wanted for
			hit = name != "" && r.Fits(name)
		}
		if hit {
			return e.decide(r.allow, i)
		}
	}
	return byDefault(e.egress)
}

// Keeps reports that a rule about addresses alone lets the guest reach a, for all ports of
// TCP or UDP: then an answer with it is no attempt to rebind a name.
func (e *Engine) Keeps(a netip.Addr) bool {
	a = Unwrap(a)
	if e.floor != nil && !e.floor.Keeps(a) {
		return false
	}
	return !a.IsUnspecified() && (e.keeps(a, TCP) || e.keeps(a, UDP))
}

func (e *Engine) keeps(a netip.Addr, p Protocol) bool {
	for i := range e.rules {
		r := &e.rules[i]
		if r.direction != Ingress && (r.kind == KindCIDR || r.kind == KindGroup) && len(r.ports) == 0 && r.speaks(p) && e.matchesAddr(r, a) {
			return r.allow
		}
	}
	return false
}

func (r *rule) speaks(p Protocol) bool {
	return len(r.protocols) == 0 || slices.Contains(r.protocols, p)
}

// admits reports that the rule is about the flow's protocol and port.
func (r *rule) admits(f Flow) bool {
	if !r.speaks(f.Protocol) {
		return false
	}
	if len(r.ports) == 0 {
		return true
	}
	return !f.icmp() && slices.ContainsFunc(r.ports, func(p PortRange) bool { return p.Start <= f.Port && f.Port <= p.End })
}

// Fits reports that a canonical name is the rule's.
func (r *rule) Fits(name string) bool {
	if r.kind == KindSuffix {
		return under(name, r.name)
	}
	return name == r.name
}

// matches reports that the rule is about the flow's other end.
func (e *Engine) matches(r *rule, f Flow, s Source, names Resolved) bool {
	switch {
	case !r.byName():
		return e.matchesAddr(r, f.Addr)
	case s.sni == "":
		return names.Bound(f.Addr, r)
	}
	// The name on the wire decides; that it is bound to the address keeps a guest from
	// allowing itself anything by lying about it.
	return r.Fits(s.sni) && (!r.allow || names.Bound(f.Addr, r))
}

func (e *Engine) matchesAddr(r *rule, a netip.Addr) bool {
	switch r.kind {
	case KindAny:
		return true
	case KindCIDR:
		return r.prefix.Contains(a) || r.prefix.Contains(Reached(a))
	case KindGroup:
		return e.groupOf(a) == r.group
	}
	return false
}
