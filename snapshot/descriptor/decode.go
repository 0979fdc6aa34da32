package descriptor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// Decode reads a descriptor. Unknown, missing and repeated fields are refused at any
// depth. It fails with [ErrInvalid], or [ErrUnsupported] for a memory checkpoint.
func Decode(b []byte) (*Descriptor, error) {
	v, err := parse(b)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	d, supported := r.descriptor(v)
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, r.err)
	}
	if !supported {
		return nil, fmt.Errorf("%w: it holds a memory checkpoint", ErrUnsupported)
	}
	return d, d.Validate()
}

// parse reads the JSON text of a descriptor.
func parse(b []byte) (any, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(b), MaxSize)
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrInvalid)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := readValue(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more follows the object", ErrInvalid)
	}
	return v, nil
}

// readValue reads one value; unlike Unmarshal it sees repeated keys.
func readValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested too deeply")
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		m := map[string]any{}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key := k.(string) // the decoder takes nothing else for a key
			if _, ok := m[key]; ok {
				return nil, fmt.Errorf("key %q is repeated", key)
			}
			if m[key], err = readValue(dec, depth+1); err != nil {
				return nil, err
			}
		}
		_, err = dec.Token()
		return m, err
	case json.Delim('['):
		l := []any{}
		for dec.More() {
			e, err := readValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			l = append(l, e)
		}
		_, err = dec.Token()
		return l, err
	}
	return t, nil
}

// reader takes values out of the tree and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// object returns v as an object that has exactly the keys.
func (r *reader) object(name string, v any, keys ...string) map[string]any {
	m, ok := v.(map[string]any)
	if !ok {
		r.fail("%s: not an object", name)
		return nil
	}
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			r.fail("%s: no %s", name, k)
		}
	}
	if r.err == nil && len(m) != len(keys) {
		r.fail("%s: unknown field", name)
	}
	return m
}

func (r *reader) text(name string, v any) string {
	s, ok := v.(string)
	if !ok {
		r.fail("%s: not a string", name)
	}
	return s
}

// optional reads a string or null; null is the empty string, so that "" is refused.
func (r *reader) optional(name string, v any) string {
	if v == nil {
		return ""
	}
	s := r.text(name, v)
	if s == "" {
		r.fail("%s: empty", name)
	}
	return s
}

func (r *reader) integer(name string, v any) int64 {
	n, _ := v.(json.Number)
	i, err := n.Int64()
	if err != nil {
		r.fail("%s: not an integer", name)
	}
	return i
}

func (r *reader) descriptor(v any) (d *Descriptor, supported bool) {
	m := r.object("descriptor", v, "schema", "artifact", "scope", "created_at", "parent", "image", "source_sandbox", "state", "labels", "extensions", "requires")
	if r.err != nil {
		return nil, false
	}
	if r.integer("schema", m["schema"]) != 1 || r.text("artifact", m["artifact"]) != "snapshot" {
		r.fail("not a snapshot of schema 1")
	}
	state, _ := m["state"].(map[string]any)
	scope := r.text("scope", m["scope"])
	if scope == "resumable" && state["kind"] == "checkpoint" {
		return nil, false
	}
	if scope != "disk" || state["kind"] != "file" {
		r.fail("scope and state.kind do not go together")
	}
	d = &Descriptor{CreatedAt: r.time("created_at", m["created_at"]), Parent: r.optional("parent", m["parent"]), SourceSandbox: r.optional("source_sandbox", m["source_sandbox"])}
	r.image(d, m["image"])
	state = r.object("state", m["state"], "kind", "format", "fstype", "upper")
	d.Format, d.Fstype = r.text("state.format", state["format"]), r.text("state.fstype", state["fstype"])
	r.upper(d, state["upper"])
	r.maps(d, m)
	return d, true
}

func (r *reader) image(d *Descriptor, v any) {
	m := r.object("image", v, "ref", "manifest_digest")
	d.ImageRef, d.ImageManifestDigest = r.text("image.ref", m["ref"]), r.text("image.manifest_digest", m["manifest_digest"])
}

func (r *reader) upper(d *Descriptor, v any) {
	m := r.object("upper", v, "file", "size_bytes", "integrity")
	d.Upper = Upper{File: r.text("upper.file", m["file"]), SizeBytes: r.integer("upper.size_bytes", m["size_bytes"])}
	if m["integrity"] != nil {
		d.Upper.Integrity = r.integrity(m["integrity"], d.Upper.SizeBytes)
	}
}

func (r *reader) integrity(v any, size int64) *Integrity {
	m, _ := v.(map[string]any)
	i := &Integrity{Algorithm: r.text("integrity.algorithm", m["algorithm"])}
	if i.Algorithm != MerkleBLAKE3 {
		r.object("integrity", v, "algorithm", "digest")
		i.Digest = r.text("integrity.digest", m["digest"])
		return i
	}
	r.object("integrity", v, "algorithm", "root", "logical_size", "leaf_size")
	i.Digest = r.text("integrity.root", m["root"])
	if r.integer("integrity.logical_size", m["logical_size"]) != size || r.integer("integrity.leaf_size", m["leaf_size"]) != LeafSize {
		r.fail("integrity: sizes differ from the payload's")
	}
	return i
}

func (r *reader) labels(v any) map[string]string {
	m, ok := v.(map[string]any)
	if !ok {
		r.fail("labels: not an object")
	}
	labels := make(map[string]string, len(m))
	for k, v := range m {
		labels[k] = r.text("labels", v)
	}
	return labels
}

func (r *reader) maps(d *Descriptor, m map[string]any) {
	d.Labels = r.labels(m["labels"])
	var ok bool
	if d.Extensions, ok = m["extensions"].(map[string]any); !ok {
		r.fail("extensions: not an object")
	}
	requires, ok := m["requires"].([]any)
	if !ok {
		r.fail("requires: not an array")
	}
	for _, v := range requires {
		d.Requires = append(d.Requires, r.text("requires", v))
	}
}
