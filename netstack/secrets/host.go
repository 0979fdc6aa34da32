package secrets

import (
	"encoding/json"
	"fmt"
	"strings"
)

// HostPattern is hosts by name: any, one, or a domain and all below it. The zero value is
// none.
type HostPattern struct {
	any    bool
	suffix bool   // name and all below it
	name   string // lower case, without dots at its ends
}

// AnyHost is every host.
func AnyHost() HostPattern { return HostPattern{any: true} }

// ParseHost reads what people write: "*", "*.example.com" or "example.com".
func ParseHost(s string) (HostPattern, error) {
	if s == "*" {
		return AnyHost(), nil
	}
	rest, suffix := strings.CutPrefix(s, "*.")
	p := HostPattern{suffix: suffix, name: strings.ToLower(strings.Trim(rest, "."))}
	if p.name == "" || strings.ContainsAny(p.name, "*/@:,= \t\r\n\x00") {
		return HostPattern{}, fmt.Errorf("host %q: want a name, *.name or *", s)
	}
	return p, nil
}

// String is what ParseHost reads.
func (p HostPattern) String() string {
	switch {
	case p.any:
		return "*"
	case p.suffix:
		return "*." + p.name
	}
	return p.name
}

// IsAny reports whether p is every host.
func (p HostPattern) IsAny() bool { return p.any }

// Fits reports whether a canonical name is one of p's. It implements policy.Matcher.
func (p HostPattern) Fits(name string) bool {
	switch {
	case p.any:
		return true
	case p.name == "":
		return false
	case name == p.name:
		return true
	}
	rest, ok := strings.CutSuffix(name, p.name)
	return p.suffix && ok && strings.HasSuffix(rest, ".")
}

// MarshalJSON writes "any", {"exact": name} or {"wildcard": "*.name"}.
func (p HostPattern) MarshalJSON() ([]byte, error) {
	switch {
	case p.any:
		return []byte(`"any"`), nil
	case p.suffix:
		return json.Marshal(map[string]string{"wildcard": p.String()})
	}
	return json.Marshal(map[string]string{"exact": p.name})
}

// UnmarshalJSON reads what MarshalJSON writes, with capitals or without.
func (p *HostPattern) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil {
		if word != "any" && word != "Any" {
			return fmt.Errorf("host pattern %q: want any, or an object", word)
		}
		*p = AnyHost()
		return nil
	}
	var object map[string]string
	if err := json.Unmarshal(b, &object); err != nil {
		return fmt.Errorf("host pattern: %w", err)
	}
	if len(object) != 1 {
		return fmt.Errorf("host pattern has %d keys, want one", len(object))
	}
	for kind, text := range object {
		switch kind {
		case "exact", "Exact":
			if strings.HasPrefix(text, "*") {
				return fmt.Errorf("host pattern exact %q is no name", text)
			}
		case "wildcard", "Wildcard":
			text = "*." + strings.TrimPrefix(text, "*.")
		default:
			return fmt.Errorf("host pattern %q is unknown: want exact, wildcard or any", kind)
		}
		read, err := ParseHost(text)
		if err != nil {
			return err
		}
		*p = read
	}
	return nil
}
