package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ParseRules reads the comma-separated rules of --net-rule, in their order:
//
//	action[:direction]@target[:protocol[:ports]]
//
// with a target that is any, dns, a group (meta and link-local are written so), an
// address or prefix (IPv6 in brackets), a domain with a dot, domain=NAME, *.SUFFIX or
// suffix=NAME. White space around rules and empty ones are ignored. The error wraps
// ErrInvalid and names the rule.
func ParseRules(list string) ([]Rule, error) {
	var rules []Rule
	for token := range strings.SplitSeq(list, ",") {
		if token = strings.TrimSpace(token); token == "" {
			continue
		}
		r, err := parseRule(token)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(token string) (r Rule, err error) {
	bad := func(format string, args ...any) (Rule, error) {
		return Rule{}, invalid("rule %q: "+format, append([]any{token}, args...)...)
	}
	left, right, ok := strings.Cut(token, "@")
	if !ok {
		return bad("missing '@': write action@target, such as allow@public")
	}
	r = Rule{Direction: Egress, Protocols: []Protocol{}, Ports: []PortRange{}}
	action, direction, directed := strings.Cut(left, ":")
	if r.Action, ok = word[Action](action, Allow, Deny); !ok {
		return bad("unknown action %q%s", action, suggest(action, "allow", "deny"))
	}
	if directed {
		if r.Direction, ok = word[Direction](direction, Egress, Ingress, Any); !ok {
			return bad("unknown direction %q%s", direction, suggest(direction, "egress", "ingress", "any"))
		}
	}
	target, fields, err := split(right)
	if err != nil {
		return bad("%s", err)
	}
	if target == "dns" {
		return dnsTarget(r, fields, bad)
	}
	if r.Destination, err = parseTarget(target); err != nil {
		return bad("%s", err)
	}
	if len(fields) > 0 {
		if r.Protocols, err = parseProtocol(fields[0], target); err != nil {
			return bad("%s", err)
		}
	}
	if len(fields) > 1 {
		if r.Ports, err = parsePorts(fields[1]); err != nil {
			return bad("%s", err)
		}
	}
	if r.Direction != Egress && (slices.Contains(r.Protocols, ICMPv4) || slices.Contains(r.Protocols, ICMPv6)) {
		return bad("ICMP goes out only: use egress")
	}
	return r, nil
}

// word is s as one of a few values.
func word[T ~string](s string, values ...T) (T, bool) {
	return T(s), slices.Contains(values, T(s))
}

// problem is an error text without a sentinel, to be put into one with the rule.
type problem string

func (p problem) Error() string { return string(p) }

// split separates the target, which may be in brackets, from at most two fields.
func split(right string) (target string, fields []string, err error) {
	if strings.HasPrefix(right, "[") {
		end := strings.IndexByte(right, ']')
		if end < 0 {
			return "", nil, problem("missing ']'")
		}
		target, rest := right[:end+1], right[end+1:]
		if rest == "" {
			return target, nil, nil
		}
		if rest[0] != ':' {
			return "", nil, problem("unexpected " + strconv.Quote(rest) + " after ']'")
		}
		fields = strings.Split(rest[1:], ":")
		if len(fields) > 2 {
			return "", nil, problem("too many fields: write target:protocol:ports")
		}
		return target, fields, nil
	}
	parts := strings.Split(right, ":")
	if len(parts) > 3 || len(parts) > 1 && parts[len(parts)-1] == "" && strings.Count(right, ":") > 1 {
		if _, err := netip.ParsePrefix(right); err == nil || isAddr(right) {
			return "", nil, problem("an IPv6 address goes in brackets: [" + right + "]")
		}
		return "", nil, problem("too many fields: write target:protocol:ports, and IPv6 addresses in brackets")
	}
	if isAddr(right) {
		return "", nil, problem("an IPv6 address goes in brackets: [" + right + "]")
	}
	return parts[0], parts[1:], nil
}

func isAddr(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// groups are the words of the grammar; JSON writes two of them otherwise.
var groups = map[string]Group{
	"public": Public, "private": Private, "loopback": Loopback, "link-local": LinkLocal,
	"meta": Metadata, "multicast": Multicast, "host": Host,
}

func parseTarget(s string) (Destination, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		return parseBracketed(strings.TrimSuffix(inner, "]"))
	}
	if g, ok := groups[s]; ok {
		return Destination{KindGroup, string(g)}, nil
	}
	if name, ok := strings.CutPrefix(s, "domain="); ok {
		n, err := Canonical(name)
		return Destination{KindDomain, n}, err
	}
	for _, prefix := range [...]string{"*.", "suffix="} {
		if name, ok := strings.CutPrefix(s, prefix); ok {
			n, err := CanonicalSuffix(name)
			return Destination{KindSuffix, n}, err
		}
	}
	switch {
	case s == "any":
		return Destination{Kind: KindAny}, nil
	case strings.Contains(s, "/"):
		p, err := netip.ParsePrefix(s)
		if err != nil || !p.Addr().Is4() {
			return Destination{}, problem(strconv.Quote(s) + " is no IPv4 prefix")
		}
		return Destination{KindCIDR, p.Masked().String()}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return Destination{KindCIDR, netip.PrefixFrom(a, 32).String()}, nil
	}
	if strings.Contains(s, ".") {
		n, err := Canonical(s)
		return Destination{KindDomain, n}, err
	}
	return Destination{}, problem("ambiguous target " + strconv.Quote(s) + suggest(s, append(slices.Sorted(maps.Keys(groups)), "any", "dns")...) +
		": write domain=" + s + " or suffix=" + s + " for a domain without a dot")
}

func parseBracketed(s string) (Destination, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil {
			p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
		}
	}
	if err != nil || !p.Addr().Is6() {
		return Destination{}, problem("[" + s + "] is no IPv6 address or prefix")
	}
	return Destination{KindCIDR, p.Masked().String()}, nil
}

func parseProtocol(s, target string) ([]Protocol, error) {
	if s == "any" {
		return []Protocol{}, nil
	}
	if p, ok := word[Protocol](s, TCP, UDP, ICMPv4, ICMPv6); ok {
		return []Protocol{p}, nil
	}
	if _, err := parsePorts(s); err == nil {
		return nil, problem("the protocol comes before the ports: write " + target + ":tcp:" + s)
	}
	return nil, problem("unknown protocol " + strconv.Quote(s) + suggest(s, "any", "tcp", "udp", "icmpv4", "icmpv6"))
}

func parsePorts(s string) ([]PortRange, error) {
	if s == "any" {
		return []PortRange{}, nil
	}
	low, high, ranged := strings.Cut(s, "-")
	if !ranged {
		high = low
	}
	lo, err1 := strconv.ParseUint(low, 10, 16)
	hi, err2 := strconv.ParseUint(high, 10, 16)
	switch {
	case err1 != nil || err2 != nil:
		return nil, problem("ports " + strconv.Quote(s) + ": write N, LOW-HIGH or any")
	case lo > hi:
		return nil, problem("ports " + strconv.Quote(s) + ": the first is beyond the last")
	}
	return []PortRange{{uint16(lo), uint16(hi)}}, nil
}

// dnsTarget expands the target dns: the gateway's resolver.
func dnsTarget(r Rule, fields []string, bad func(string, ...any) (Rule, error)) (Rule, error) {
	if r.Direction != Egress {
		return bad("queries go out only: use egress")
	}
	out := DNSRule(r.Action)
	if len(fields) > 0 && fields[0] != "any" {
		p, ok := word[Protocol](fields[0], UDP, TCP)
		if !ok {
			return bad("dns goes over udp or tcp, not %q", fields[0])
		}
		out.Protocols = []Protocol{p}
	}
	if len(fields) > 1 && fields[1] != "any" && fields[1] != "53" {
		return bad("dns is port 53, not %q", fields[1])
	}
	return out, nil
}

// suggest asks whether a word close to s was meant.
func suggest(s string, words ...string) string {
	best, least := "", 3
	if len(s) > 16 {
		return ""
	}
	for _, w := range words {
		if d := distance(s, w); d < least {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return ". Did you mean `" + best + "`?"
}

// distance is the Levenshtein distance of two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
