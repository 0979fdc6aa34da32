package ref

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
)

// maxLength bounds the text of a reference: name 255, tag 128 and digest 136 bytes
// with their separators are less.
const maxLength = 1024

// Reference is an image reference. Those with the same String are the same, however they
// were given. The zero value is no reference.
type Reference struct {
	parts parts
	given string // what Parse read; "" if it comes from elsewhere
}

// Parse reads an image reference by Docker's rules: without a registry it lies on the
// default one, a single name there is below "library/", without tag and digest the
// tag is "latest". Tag and digest may both be present; then the digest identifies the
// image. Errors wrap oci.ErrReference.
func Parse(s string) (Reference, error) {
	if len(s) > maxLength {
		return Reference{}, fmt.Errorf("%w: %d bytes long; the limit is %d", oci.ErrReference, len(s), maxLength)
	}
	p, err := split(s)
	if err != nil {
		return Reference{}, fmt.Errorf("%w %q: %w", oci.ErrReference, s, err)
	}
	if p.tag == "" && p.digest == "" {
		p.tag = defaultTag
	}
	return Reference{p, s}, nil
}

// String returns the canonical form, which Parse maps to an equal reference.
func (r Reference) String() string {
	if r.parts.repository == "" {
		return ""
	}
	return r.parts.registry + "/" + r.parts.repository + r.version()
}

// Given returns the text that Parse read, which microsandbox 0.6.18 knows an image by.
func (r Reference) Given() string {
	if r.given == "" {
		return r.String()
	}
	return r.given
}

// Familiar returns the shortest form that Parse maps to the same reference, for display.
func (r Reference) Familiar() string {
	if r.parts.registry != defaultRegistry {
		return r.String()
	}
	name := r.parts.repository
	if short, ok := strings.CutPrefix(name, officialPrefix); ok && !strings.Contains(short, "/") {
		name = short
	}
	return name + r.version()
}

func (r Reference) version() string {
	var s string
	if r.parts.tag != "" {
		s = ":" + r.parts.tag
	}
	if r.parts.digest != "" {
		s += "@" + r.parts.digest.String()
	}
	return s
}

// Registry returns the host, with port if there is one.
func (r Reference) Registry() string { return r.parts.registry }

// Repository returns the path on the registry.
func (r Reference) Repository() string { return r.parts.repository }

// Tag returns the tag, "" if there is none.
func (r Reference) Tag() string { return r.parts.tag }

// Digest returns the digest, "" if there is none.
func (r Reference) Digest() digest.Digest { return r.parts.digest }

// WithDigest returns the reference of the same repository that stands for one manifest
// only; it has no tag.
func (r Reference) WithDigest(d digest.Digest) Reference {
	r.parts.tag, r.parts.digest, r.given = "", d, ""
	return r
}

// Key returns the lowercase hexadecimal SHA-256 of the canonical form, which names the
// reference's files in the cache.
func (r Reference) Key() string {
	sum := sha256.Sum256([]byte(r.String()))
	return hex.EncodeToString(sum[:])
}

// IsLocalPath reports whether an image argument means a file or directory of the host
// and no reference: it is "." or "..", or begins with "/", "./" or "../".
func IsLocalPath(s string) bool {
	return s == "." || s == ".." || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}
