package ref

import (
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
)

// What a reference may be left without, as Docker fills it in.
const (
	defaultRegistry = "docker.io"
	legacyRegistry  = "index.docker.io"
	officialPrefix  = "library/"
	defaultTag      = "latest"
)

const (
	maxRepository = 255
	maxTag        = 128
)

// parts are the parts of a reference; tag and digest may be absent.
type parts struct {
	registry, repository, tag string
	digest                    digest.Digest
}

// split reads a reference by the grammar of the distribution project, which every
// registry client follows (github.com/distribution/reference; the tests compare with
// it). It is done by hand because compiling that package's regular expressions takes
// milliseconds in every process.
func split(s string) (parts, error) {
	if len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" {
		return parts{}, errors.New("64 hexadecimal digits are an identifier, not a name")
	}
	var p parts
	registry, rest := splitRegistry(s)
	name, after, digested := strings.Cut(rest, "@")
	name, tag, tagged := strings.Cut(name, ":")
	p.registry, p.repository, p.tag, p.digest = registry, name, tag, digest.Digest(after)
	switch {
	case !isHost(registry):
		return parts{}, errors.New("the registry is no host name")
	case strings.ToLower(name) != name:
		return parts{}, errors.New("the name must be in lower case")
	case !isRepository(name):
		return parts{}, errors.New("the name is malformed")
	case len(name) > maxRepository:
		return parts{}, errors.New("the name is longer than 255 bytes")
	case tagged && !isTag(tag):
		return parts{}, errors.New("the tag is malformed")
	}
	if digested {
		if err := p.digest.Validate(); err != nil {
			return parts{}, err
		}
	}
	return p, nil
}

// splitRegistry cuts the registry off if there is one: what stands before the first
// slash and looks like a host.
func splitRegistry(s string) (registry, rest string) {
	first, after, found := strings.Cut(s, "/")
	switch {
	case !found:
		return defaultRegistry, officialPrefix + s
	case first == legacyRegistry || first == defaultRegistry:
		registry, rest = defaultRegistry, after
	case first == "localhost" || strings.ContainsAny(first, ".:") || strings.ToLower(first) != first:
		return first, after
	default:
		registry, rest = defaultRegistry, s
	}
	if !strings.Contains(rest, "/") {
		rest = officialPrefix + rest
	}
	return registry, rest
}

// isHost reports whether s is a host name or bracketed IPv6 address, with a port or not.
func isHost(s string) bool {
	if strings.HasPrefix(s, "[") {
		address, after, found := strings.Cut(s[1:], "]")
		return found && only(address, isHexOrColon) && (after == "" || after[0] == ':' && only(after[1:], isDigit))
	}
	name, port, found := strings.Cut(s, ":")
	if found && !only(port, isDigit) {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !only(label, isLabel) || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// isRepository reports whether s is a path of components of lower-case letters and
// digits that single separators join: a dot, one or two underscores, any number of
// dashes.
func isRepository(s string) bool {
	for component := range strings.SplitSeq(s, "/") {
		if component == "" || !isLowerOrDigit(component[0]) || !isLowerOrDigit(component[len(component)-1]) {
			return false
		}
		for separator := range strings.FieldsFuncSeq(component, func(r rune) bool { return r < 0x80 && isLowerOrDigit(byte(r)) }) {
			if separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "" {
				return false
			}
		}
	}
	return true
}

func isTag(s string) bool {
	return len(s) <= maxTag && only(s, isTagByte) && s[0] != '.' && s[0] != '-'
}

// only reports whether s is not empty and all its bytes are of a kind.
func only(s string, kind func(c byte) bool) bool {
	for i := range len(s) {
		if !kind(s[i]) {
			return false
		}
	}
	return s != ""
}

func isDigit(c byte) bool        { return c >= '0' && c <= '9' }
func isLowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || isDigit(c) }
func isAlphanumeric(c byte) bool { return isLowerOrDigit(c) || c >= 'A' && c <= 'Z' }
func isLabel(c byte) bool        { return isAlphanumeric(c) || c == '-' }
func isTagByte(c byte) bool      { return isAlphanumeric(c) || c == '_' || c == '.' || c == '-' }
func isHexOrColon(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':'
}
