package proto

import (
	"errors"
	"fmt"
)

// EntryKind is the kind of a directory entry.
type EntryKind string

// The entry kinds.
const (
	EntryFile    EntryKind = "file"
	EntryDir     EntryKind = "dir"
	EntrySymlink EntryKind = "symlink"
	EntryOther   EntryKind = "other"
)

// FSEntry is the metadata of one file. Mode is the full st_mode with its type bits; times
// are seconds since the epoch; Modified repeats Mtime.
type FSEntry struct {
	Path     string    `cbor:"path"`
	Kind     EntryKind `cbor:"kind"`
	Size     uint64    `cbor:"size"`
	Mode     uint32    `cbor:"mode"`
	Modified *int64    `cbor:"modified"`
	UID      uint32    `cbor:"uid"`
	GID      uint32    `cbor:"gid"`
	Atime    *int64    `cbor:"atime"`
	Mtime    *int64    `cbor:"mtime"`
}

// FSResponse is the payload of core.fs.response, the terminal answer to a file request.
// Error is set when OK is false; Data is nil for operations without a result.
type FSResponse struct {
	OK    bool      `cbor:"ok"`
	Error *string   `cbor:"error"`
	Data  *FSResult `cbor:"data"`
}

// ResultKind says which field of an FSResult counts; its value is the name on the wire.
type ResultKind string

// The result kinds.
const (
	ResultStat   ResultKind = "Stat"   // Entry
	ResultList   ResultKind = "List"   // Entries
	ResultHandle ResultKind = "Handle" // Handle
	ResultPath   ResultKind = "Path"   // Path
)

// FSResult is the result of a file operation. On the wire it is a map with one entry, the
// kind's name.
type FSResult struct {
	Kind    ResultKind
	Entry   FSEntry
	Entries []FSEntry
	Handle  uint64
	Path    string
}

// MarshalCBOR writes {kind: value}.
func (r FSResult) MarshalCBOR() ([]byte, error) {
	var value any
	switch r.Kind {
	case ResultStat:
		value = r.Entry
	case ResultList:
		value = r.Entries
	case ResultHandle:
		value = r.Handle
	case ResultPath:
		value = r.Path
	default:
		return nil, fmt.Errorf("unknown file result kind %q", r.Kind)
	}
	b, err := marshal(value)
	if err != nil {
		return nil, err
	}
	return append(appendVariant(nil, string(r.Kind)), b...), nil
}

// UnmarshalCBOR reads what MarshalCBOR writes.
func (r *FSResult) UnmarshalCBOR(b []byte) error {
	name, value, err := variant(b)
	if err != nil {
		return err
	}
	out := FSResult{Kind: ResultKind(name)}
	switch out.Kind {
	case ResultStat:
		err = unmarshal(value, &out.Entry)
	case ResultList:
		err = unmarshal(value, &out.Entries)
	case ResultHandle:
		err = unmarshal(value, &out.Handle)
	case ResultPath:
		err = unmarshal(value, &out.Path)
	default:
		err = errors.New("unknown file result")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*r = out
	return nil
}

// appendVariant starts the one-entry map that names an enum variant; its value follows.
func appendVariant(dst []byte, name string) []byte {
	dst = appendHead(append(dst, majorMap<<5|1), majorText, uint64(len(name)))
	return append(dst, name...)
}

// variant opens the one-entry map that names an enum variant. The map must have a
// definite length; value is the well-formed rest of b.
func variant(b []byte) (name string, value []byte, err error) {
	c := cursor{b: b}
	major, info, n, err := c.head()
	if err != nil {
		return "", nil, err
	}
	if major != majorMap || info == infoIndefinite || n != 1 {
		return "", nil, errors.New("want a map with one entry")
	}
	key, err := c.text()
	if err != nil {
		return "", nil, err
	}
	return string(key), c.b, nil
}
