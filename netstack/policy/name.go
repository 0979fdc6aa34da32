package policy

import (
	"strings"
)

const (
	maxName  = 253 // octets of a name's text, RFC 1035 §2.3.4
	maxLabel = 63
)

// Canonical is name in lower case and without dots at its ends. It must be made of DNS
// labels, in which an underscore is allowed.
func Canonical(name string) (string, error) {
	n := strings.ToLower(strings.Trim(name, "."))
	switch {
	case n == "":
		return "", invalid("%q is no domain name", name)
	case len(n) > maxName:
		return "", invalid("a domain name of %d octets: at most %d", len(n), maxName)
	}
	for label := range strings.SplitSeq(n, ".") {
		if !validLabel(label) {
			return "", invalid("%q is no domain name: %q in it is no label", name, label)
		}
	}
	return n, nil
}

func validLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		c := label[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// CanonicalSuffix is Canonical of a suffix that a person wrote, which must not match
// every domain of a top-level domain.
func CanonicalSuffix(suffix string) (string, error) {
	n, err := Canonical(strings.TrimPrefix(suffix, "*."))
	if err != nil {
		return "", err
	}
	if !strings.Contains(n, ".") {
		return "", invalid("suffix %q is too broad: it would match every domain in .%s", suffix, n)
	}
	return n, nil
}

// under reports that name is suffix or below it. Both are canonical.
func under(name, suffix string) bool {
	rest, ok := strings.CutSuffix(name, suffix)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}
