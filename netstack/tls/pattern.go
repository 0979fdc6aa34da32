package tls

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gomsb/gomsb/netstack/policy"
)

// ErrPattern is wrapped by errors about a pattern for host names.
var ErrPattern = errors.New("invalid host pattern")

// Pattern stands for one host name, or for a domain and all below it.
type Pattern struct {
	name string // canonical
	wild bool
}

// ParsePattern reads NAME or *.DOMAIN, in upper or lower case. The error wraps ErrPattern.
func ParsePattern(s string) (Pattern, error) {
	rest, wild := strings.CutPrefix(s, "*.")
	name, err := policy.Canonical(rest)
	if err != nil {
		return Pattern{}, fmt.Errorf("%w %q: write NAME, or *.DOMAIN for it and all below", ErrPattern, s)
	}
	return Pattern{name, wild}, nil
}

// String is the pattern as ParsePattern reads it.
func (p Pattern) String() string {
	if p.wild {
		return "*." + p.name
	}
	return p.name
}

// Matches reports whether a canonical name is one of the pattern's.
func (p Pattern) Matches(name string) bool {
	rest, ok := strings.CutSuffix(name, p.name)
	return ok && (rest == "" || p.wild && rest[len(rest)-1] == '.')
}

// weight orders patterns that match the same name: the most specific has the most.
func (p Pattern) weight() int {
	if p.wild {
		return len(p.name)
	}
	return len(p.name) + 1
}

func parsePatterns(list []string) (patterns []Pattern, err error) {
	for _, s := range list {
		p, err := ParsePattern(s)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}
