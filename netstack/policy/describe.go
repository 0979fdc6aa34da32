package policy

import (
	"slices"
	"strconv"
	"strings"
)

// String is the rule as ParseRules reads it, but that a rule of several protocols or ranges
// of ports, which cannot be written so, has them joined by a plus sign.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString(string(r.Action))
	if r.Direction != Egress {
		b.WriteString(":" + string(r.Direction))
	}
	b.WriteString("@")
	if r.isDNS() {
		b.WriteString("dns")
		return b.String()
	}
	b.WriteString(r.Destination.target())
	if len(r.Protocols) == 0 && len(r.Ports) == 0 {
		return b.String()
	}
	b.WriteString(":" + joined(r.Protocols, func(p Protocol) string { return string(p) }))
	if len(r.Ports) > 0 {
		b.WriteString(":" + joined(r.Ports, PortRange.String))
	}
	return b.String()
}

// isDNS reports that the rule is DNSRule's.
func (r Rule) isDNS() bool {
	d := DNSRule(r.Action)
	return r.Direction == d.Direction && r.Destination == d.Destination && slices.Equal(r.Protocols, d.Protocols) && slices.Equal(r.Ports, d.Ports)
}

func joined[T any](list []T, text func(T) string) string {
	if len(list) == 0 {
		return "any"
	}
	var words []string
	for _, v := range list {
		words = append(words, text(v))
	}
	return strings.Join(words, "+")
}

// String is N or LOW-HIGH.
func (p PortRange) String() string {
	s := strconv.Itoa(int(p.Start))
	if p.End != p.Start {
		s += "-" + strconv.Itoa(int(p.End))
	}
	return s
}

// target is the destination as a rule has it behind its @.
func (d Destination) target() string {
	switch d.Kind {
	case KindSuffix:
		return "*." + d.Value
	case KindDomain:
		if !strings.Contains(d.Value, ".") {
			return "domain=" + d.Value
		}
	case KindCIDR:
		if strings.Contains(d.Value, ":") {
			return "[" + d.Value + "]"
		}
	case KindGroup:
		if d.Value == string(Metadata) {
			return "meta"
		}
		return strings.ReplaceAll(d.Value, "_", "-")
	case KindAny:
		return "any"
	}
	return d.Value
}
