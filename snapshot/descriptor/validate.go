package descriptor

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxFileSize is 2^53-1, the largest size that every JSON reader keeps exactly.
const maxFileSize = 1<<53 - 1

// maxDepth bounds the nesting of extensions.
const maxDepth = 64

// Validate checks all rules of the schema.
func (d *Descriptor) Validate() error {
	invalid := func(field, why string) error { return fmt.Errorf("%w: %s: %s", ErrInvalid, field, why) }
	texts := []string{d.ImageRef, d.SourceSandbox, d.Fstype, d.Upper.File}
	for k, v := range d.Labels {
		texts = append(texts, k, v)
	}
	for k := range d.Extensions {
		texts = append(texts, k)
	}
	switch year := d.CreatedAt.UTC().Year(); {
	case slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) }):
		return invalid("text", "not UTF-8")
	case year < 0 || year > 9999:
		return invalid("created_at", "out of range")
	case d.Parent != "" && !IsDigest(d.Parent, "sha256:"):
		return invalid("parent", "not a sha256 digest")
	case d.ImageRef == "":
		return invalid("image.ref", "empty")
	case !IsDigest(d.ImageManifestDigest, "sha256:"):
		return invalid("image.manifest_digest", "not a sha256 digest")
	case d.Format != "raw" && d.Format != "qcow2":
		return invalid("state.format", "neither raw nor qcow2")
	case d.Fstype == "":
		return invalid("state.fstype", "empty")
	case !IsPayloadName(d.Upper.File):
		return invalid("state.upper.file", "not a plain, free file name")
	case d.Upper.SizeBytes < 0 || d.Upper.SizeBytes > maxFileSize:
		return invalid("state.upper.size_bytes", "out of range")
	}
	if i := d.Upper.Integrity; i != nil {
		prefix := "sha256:"
		if i.Algorithm == MerkleBLAKE3 {
			prefix = "blake3:"
		}
		if i.Algorithm != SHA256 && i.Algorithm != SparseSHA256 && i.Algorithm != MerkleBLAKE3 {
			return invalid("integrity.algorithm", "unknown")
		}
		if !IsDigest(i.Digest, prefix) {
			return invalid("integrity", "not a "+prefix+" digest")
		}
	}
	for n, r := range d.Requires {
		if n > 0 && d.Requires[n-1] >= r {
			return invalid("requires", "not sorted and unique")
		}
		if _, ok := d.Extensions[r]; !ok {
			return invalid("requires", "names an extension that is not there")
		}
	}
	return nil
}

// IsDigest reports whether s is prefix, such as "sha256:", and 64 lowercase hex digits.
func IsDigest(s, prefix string) bool {
	hex, ok := strings.CutPrefix(s, prefix)
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// IsPayloadName reports whether s may name a payload: not what would leave the artefact's
// directory or shadow its other files.
func IsPayloadName(s string) bool {
	reserved := []string{"", ".", "..", FileName, LegacyFileName, ".manifest.json.legacy", ".snapshot-migration.lock"}
	return !slices.Contains(reserved, s) && !strings.ContainsAny(s, "/\\:\x00") && len(s) <= 255
}
