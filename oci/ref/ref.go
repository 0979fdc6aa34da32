package ref

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
)

// maxLength bounds the text of a reference: name 255, tag 128 and digest 136 bytes
// with their separators are less.
const maxLength = 1024

// Reference is an image reference in canonical form. The zero value is no reference.
type Reference struct {
	named reference.Named
}

// Parse reads an image reference by Docker's rules: without a registry it lies on the
// default one, a single name there is below "library/", without tag and digest the
// tag is "latest". Tag and digest may both be present; then the digest identifies the
// image. Errors wrap oci.ErrReference.
func Parse(s string) (Reference, error) {
	if len(s) > maxLength {
		return Reference{}, fmt.Errorf("%w: %d bytes long; the limit is %d", oci.ErrReference, len(s), maxLength)
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, fmt.Errorf("%w %q: %w", oci.ErrReference, s, err)
	}
	return Reference{named: reference.TagNameOnly(named)}, nil
}

// String returns the canonical form, which Parse maps to an equal reference.
func (r Reference) String() string {
	if r.named == nil {
		return ""
	}
	return r.named.String()
}

// Familiar returns the shortest form that Parse maps to the same reference, for display.
func (r Reference) Familiar() string {
	if r.named == nil {
		return ""
	}
	return reference.FamiliarString(r.named)
}

// Registry returns the host, with port if there is one.
func (r Reference) Registry() string {
	if r.named == nil {
		return ""
	}
	return reference.Domain(r.named)
}

// Repository returns the path on the registry.
func (r Reference) Repository() string {
	if r.named == nil {
		return ""
	}
	return reference.Path(r.named)
}

// Tag returns the tag, "" if there is none.
func (r Reference) Tag() string {
	if t, ok := r.named.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// Digest returns the digest, "" if there is none.
func (r Reference) Digest() digest.Digest {
	if d, ok := r.named.(reference.Digested); ok {
		return d.Digest()
	}
	return ""
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
