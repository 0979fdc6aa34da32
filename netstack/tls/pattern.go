package tls

import (
	"errors"
	"fmt"
	"log/slog"
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

// usable is the pattern that s is. One that can match no name is logged and ignored, as
// microsandbox does, whose sandboxes start here as well: what it was to exempt is not.
func usable(s string, log *slog.Logger) (Pattern, bool) {
	p, err := ParsePattern(s)
	if err != nil {
		log.Warn("a pattern that matches no host is ignored", "error", err)
	}
	return p, err == nil
}

func parsePatterns(list []string, log *slog.Logger) (patterns []Pattern) {
	for _, s := range list {
		if p, ok := usable(s, log); ok {
			patterns = append(patterns, p)
		}
	}
	return patterns
}
