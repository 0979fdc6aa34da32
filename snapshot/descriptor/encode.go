package descriptor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Encode returns the canonical bytes: compact JSON, fields in the schema's order, keys of
// maps sorted by bytes.
func (d *Descriptor) Encode() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"schema":1,"artifact":"snapshot","scope":"disk","created_at":`...)
	b = appendString(b, d.CreatedAt.UTC().Format(time.RFC3339Nano))
	b = appendOptional(append(b, `,"parent":`...), d.Parent)
	b = appendString(append(b, `,"image":{"ref":`...), d.ImageRef)
	b = appendString(append(b, `,"manifest_digest":`...), d.ImageManifestDigest)
	b = appendOptional(append(b, `},"source_sandbox":`...), d.SourceSandbox)
	b = appendString(append(b, `,"state":{"kind":"file","format":`...), d.Format)
	b = appendString(append(b, `,"fstype":`...), d.Fstype)
	b = appendString(append(b, `,"upper":{"file":`...), d.Upper.File)
	b = strconv.AppendInt(append(b, `,"size_bytes":`...), d.Upper.SizeBytes, 10)
	b = append(append(b, `,"integrity":`...), d.Upper.EncodeIntegrity()...)
	b = append(b, `}},"labels":{`...)
	for i, k := range slices.Sorted(maps.Keys(d.Labels)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(appendString(b, k), ':'), d.Labels[k])
	}
	b = append(b, `},"extensions":`...)
	b, err := appendValue(b, d.Extensions, 0)
	if err != nil {
		return nil, err
	}
	b = append(b, `,"requires":[`...)
	for i, r := range d.Requires {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, r)
	}
	b = append(b, "]}"...)
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(b), MaxSize)
	}
	return b, nil
}

// Digest returns the identity: "sha256:" and the hash of the canonical bytes.
func (d *Descriptor) Digest() (string, error) {
	b, err := d.Encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// EncodeIntegrity returns what stands for the integrity in the canonical bytes.
func (u Upper) EncodeIntegrity() []byte {
	if u.Integrity == nil {
		return []byte("null")
	}
	b := appendString([]byte(`{"algorithm":`), u.Integrity.Algorithm)
	if u.Integrity.Algorithm != MerkleBLAKE3 {
		return append(appendString(append(b, `,"digest":`...), u.Integrity.Digest), '}')
	}
	b = appendString(append(b, `,"root":`...), u.Integrity.Digest)
	b = strconv.AppendInt(append(b, `,"logical_size":`...), u.SizeBytes, 10)
	return append(strconv.AppendInt(append(b, `,"leaf_size":`...), LeafSize, 10), '}')
}

func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

// appendString escapes what JSON demands and nothing else. The standard library escapes
// U+2028 and U+2029 too, which would change identities.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\f':
			b = append(b, '\\', 'f')
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: extensions are nested too deeply", ErrInvalid)
	}
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case json.Number:
		return append(b, v...), nil
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("%w: extensions: not UTF-8", ErrInvalid)
		}
		return appendString(b, v), nil
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendValue(b, e, depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendValue(append(appendString(b, k), ':'), v[k], depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("%w: extensions: %T is not a JSON value", ErrInvalid, v)
}
