package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// inventory is archive.json, schema 1; the order of fields is that of its canonical form.
type inventory struct {
	Schema                 int                        `json:"schema"`
	Artifact               string                     `json:"artifact"`
	Head                   string                     `json:"head"`
	SuggestedName          string                     `json:"suggested_name,omitempty"`
	Completeness           string                     `json:"completeness"`
	WithParents            bool                       `json:"with_parents"`
	WithImage              bool                       `json:"with_image"`
	Snapshots              []listed                   `json:"snapshots"`
	Entries                []entry                    `json:"entries"`
	ProtectionRequirements []json.RawMessage          `json:"protection_requirements"`
	Extensions             map[string]json.RawMessage `json:"extensions"`
	Requires               []string                   `json:"requires"`
}

// listed is a snapshot and the member that describes it.
type listed struct {
	SnapshotID string `json:"snapshot_id"`
	Descriptor string `json:"descriptor"`
}

// entry is a member.
type entry struct {
	Path               string          `json:"path"`
	OwnerSnapshot      *string         `json:"owner_snapshot"`
	Kind               string          `json:"kind"`
	Included           bool            `json:"included"`
	EncodedSize        int64           `json:"encoded_size"`
	ApparentSize       int64           `json:"apparent_size"`
	Integrity          json.RawMessage `json:"integrity"` // of a payload: what its descriptor records
	TransportIntegrity *digest         `json:"transport_integrity,omitempty"`
}

type digest struct {
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"`
}

const (
	inventoryArtifact = "snapshot-archive"
	bootComplete      = "boot-complete"
)

// encode returns the canonical bytes: compact, lists sorted, nothing escaped that JSON
// does not demand. Of all texts only the suggested name can hold what encoding/json
// escapes beyond that, and no backslash.
func (i *inventory) encode() ([]byte, error) {
	slices.SortFunc(i.Snapshots, func(a, b listed) int { return strings.Compare(a.SnapshotID, b.SnapshotID) })
	slices.SortFunc(i.Entries, func(a, b entry) int { return strings.Compare(a.Path, b.Path) })
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(i); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	for _, r := range []string{"\u2028", "\u2029"} {
		text = bytes.ReplaceAll(text, fmt.Appendf(nil, `\u%04x`, []rune(r)[0]), []byte(r))
	}
	if len(text) > maxDocument {
		return nil, fmt.Errorf("%w: an inventory of %d bytes", ErrLimit, len(text))
	}
	return text, nil
}

// decodeInventory reads archive.json, which must be in canonical form.
func decodeInventory(text []byte) (*inventory, error) {
	i := &inventory{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(i); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, inventoryName, err)
	}
	if again, err := i.encode(); err != nil || !bytes.Equal(again, text) {
		return nil, fmt.Errorf("%w: %s is not in its canonical form", ErrArchive, inventoryName)
	}
	switch {
	case i.Schema != 1 || i.Artifact != inventoryArtifact:
		return nil, fmt.Errorf("%w: %s of another kind", ErrUnsupported, inventoryName)
	case i.Completeness != bootComplete || len(i.ProtectionRequirements) > 0 || slices.ContainsFunc(i.Requires, func(r string) bool { return r != transportAlgorithm && r != checkpointFeature }):
		return nil, fmt.Errorf("%w: it is %q, requires %q and %d protections", ErrUnsupported, i.Completeness, i.Requires, len(i.ProtectionRequirements))
	}
	return i, nil
}

// ownIntegrity is the entry of a member that its own SHA-256 stands for.
func ownIntegrity(sum string) json.RawMessage {
	return fmt.Appendf(nil, `{"algorithm":"sha256","digest":"%s"}`, sum)
}
