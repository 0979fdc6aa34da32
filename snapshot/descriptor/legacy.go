package descriptor

import (
	"errors"
	"fmt"
	"time"
)

// LegacyFileName is the name of the descriptor in artefacts of releases before 0.6.14.
const LegacyFileName = "manifest.json"

// ErrLegacyParent reports a descriptor of a release before 0.6.14 that has a parent: the
// identity of a parent changed with the schema.
var ErrLegacyParent = errors.New("snapshot of an older microsandbox that has a parent: open it once with the official 0.6.18 to migrate both")

// DecodeLegacy reads a descriptor of a release before 0.6.14 as the one that 0.6.18 makes
// of it, whose identity is another. It is as strict as [Decode]. It fails with
// [ErrInvalid] or [ErrLegacyParent].
func DecodeLegacy(b []byte) (*Descriptor, error) {
	v, err := parse(b)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	d := r.legacy(v)
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, r.err)
	}
	if d.Parent != "" {
		return nil, ErrLegacyParent
	}
	return d, d.Validate()
}

func (r *reader) legacy(v any) *Descriptor {
	m := r.object("descriptor", v, "schema", "format", "fstype", "image", "parent", "created_at", "labels", "upper", "source_sandbox")
	if r.err != nil {
		return nil
	}
	if r.integer("schema", m["schema"]) != 1 {
		r.fail("not a snapshot of schema 1")
	}
	d := &Descriptor{
		CreatedAt: r.time("created_at", m["created_at"]), Parent: r.optional("parent", m["parent"]), SourceSandbox: r.optional("source_sandbox", m["source_sandbox"]),
		Format: r.text("format", m["format"]), Fstype: r.text("fstype", m["fstype"]), Labels: r.labels(m["labels"]), Extensions: map[string]any{},
	}
	r.image(d, m["image"])
	r.upper(d, m["upper"])
	return d
}

func (r *reader) time(name string, v any) time.Time {
	t, err := time.Parse(time.RFC3339Nano, r.text(name, v))
	if err != nil {
		r.fail("%s: %w", name, err)
	}
	return t.UTC()
}
