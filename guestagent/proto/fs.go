package proto

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// FSRequest is the payload of core.fs.request.
type FSRequest struct {
	Op FSOp
}

// FSOp is one file operation: one of the FS... structs below, by value. On the wire it is
// a map with one entry, the operation's name.
type FSOp interface {
	// Name is the operation's name on the wire.
	Name() string
}

// The file operations. Paths are UTF-8; relative ones start at the guest's root.
type (
	// FSRealPath resolves links; the last component may be missing.
	FSRealPath struct {
		Path string `cbor:"path"`
	}
	// FSStat returns the metadata of a path.
	FSStat struct {
		Path          string `cbor:"path"`
		FollowSymlink bool   `cbor:"follow_symlink"`
	}
	// FSSetStat changes the attributes that are given.
	FSSetStat struct {
		Path          string  `cbor:"path"`
		FollowSymlink bool    `cbor:"follow_symlink"`
		Attrs         FSAttrs `cbor:"attrs"`
	}
	// FSList returns all entries of a directory in one answer.
	FSList struct {
		Path string `cbor:"path"`
	}
	// FSReadLink returns a link's target.
	FSReadLink struct {
		Path string `cbor:"path"`
	}
	// FSSymlink makes LinkPath a link to Target.
	FSSymlink struct {
		Target   string `cbor:"target"`
		LinkPath string `cbor:"link_path"`
	}
	// FSMkdir makes a directory and its parents; Mode applies to the last one.
	FSMkdir struct {
		Path string  `cbor:"path"`
		Mode *uint32 `cbor:"mode"`
	}
	// FSRemove unlinks a file.
	FSRemove struct {
		Path string `cbor:"path"`
	}
	// FSRemoveDir removes a directory, with its contents if Recursive.
	FSRemoveDir struct {
		Path      string `cbor:"path"`
		Recursive bool   `cbor:"recursive"`
	}
	// FSCopy copies one regular file.
	FSCopy struct {
		Src string `cbor:"src"`
		Dst string `cbor:"dst"`
	}
	// FSRename renames within one file system.
	FSRename struct {
		Src string `cbor:"src"`
		Dst string `cbor:"dst"`
	}
	// FSOpenFile opens a file and returns a handle.
	FSOpenFile struct {
		Path    string        `cbor:"path"`
		Options FSOpenOptions `cbor:"options"`
	}
	// FSOpenDir opens a directory and returns a handle.
	FSOpenDir struct {
		Path string `cbor:"path"`
	}
	// FSCloseHandle closes a handle of either kind.
	FSCloseHandle struct {
		Handle uint64 `cbor:"handle"`
	}
	// FSRead streams fs.data from Offset up to Len bytes or the end of the file.
	FSRead struct {
		Handle uint64  `cbor:"handle"`
		Offset uint64  `cbor:"offset"`
		Len    *uint64 `cbor:"len"`
	}
	// FSWrite takes fs.data from the host, ended by an empty one; Len, if given, must
	// match their sum.
	FSWrite struct {
		Handle uint64  `cbor:"handle"`
		Offset uint64  `cbor:"offset"`
		Len    *uint64 `cbor:"len"`
	}
	// FSReadDir returns the next entries of a directory handle, none at its end.
	FSReadDir struct {
		Handle uint64  `cbor:"handle"`
		Limit  *uint32 `cbor:"limit"`
	}
	// FSFStat returns the metadata of an open handle.
	FSFStat struct {
		Handle uint64 `cbor:"handle"`
	}
	// FSFSetStat changes the attributes of an open file.
	FSFSetStat struct {
		Handle uint64  `cbor:"handle"`
		Attrs  FSAttrs `cbor:"attrs"`
	}
)

// FSAttrs are the attributes to set; nil leaves one as it is. Times are seconds since the
// epoch, Mode holds permission bits.
type FSAttrs struct {
	Mode  *uint32 `cbor:"mode"`
	UID   *uint32 `cbor:"uid"`
	GID   *uint32 `cbor:"gid"`
	Size  *uint64 `cbor:"size"`
	Atime *int64  `cbor:"atime"`
	Mtime *int64  `cbor:"mtime"`
}

// FSOpenOptions says how to open a file. Truncate needs Write, Create and CreateNew need
// Write or Append; Mode (nil: 0666) applies to a file that is created.
type FSOpenOptions struct {
	Read      bool    `cbor:"read"`
	Write     bool    `cbor:"write"`
	Append    bool    `cbor:"append"`
	Create    bool    `cbor:"create"`
	Truncate  bool    `cbor:"truncate"`
	CreateNew bool    `cbor:"create_new"`
	Mode      *uint32 `cbor:"mode"`
}

// Names of the operations on the wire.
func (FSRealPath) Name() string    { return "RealPath" }
func (FSStat) Name() string        { return "Stat" }
func (FSSetStat) Name() string     { return "SetStat" }
func (FSList) Name() string        { return "List" }
func (FSReadLink) Name() string    { return "ReadLink" }
func (FSSymlink) Name() string     { return "Symlink" }
func (FSMkdir) Name() string       { return "Mkdir" }
func (FSRemove) Name() string      { return "Remove" }
func (FSRemoveDir) Name() string   { return "RemoveDir" }
func (FSCopy) Name() string        { return "Copy" }
func (FSRename) Name() string      { return "Rename" }
func (FSOpenFile) Name() string    { return "OpenFile" }
func (FSOpenDir) Name() string     { return "OpenDir" }
func (FSCloseHandle) Name() string { return "CloseHandle" }
func (FSRead) Name() string        { return "Read" }
func (FSWrite) Name() string       { return "Write" }
func (FSReadDir) Name() string     { return "ReadDir" }
func (FSFStat) Name() string       { return "FStat" }
func (FSFSetStat) Name() string    { return "FSetStat" }

// MarshalCBOR writes {"op": {name: fields}}.
func (r FSRequest) MarshalCBOR() ([]byte, error) {
	if r.Op == nil {
		return nil, errors.New("file request without an operation")
	}
	fields, err := marshal(r.Op)
	if err != nil {
		return nil, err
	}
	b := []byte{majorMap<<5 | 1, majorText<<5 | 2, 'o', 'p'}
	return append(appendVariant(b, r.Op.Name()), fields...), nil
}

// UnmarshalCBOR reads what MarshalCBOR writes; the operation becomes a struct value.
func (r *FSRequest) UnmarshalCBOR(b []byte) error {
	var outer struct {
		Op cbor.RawMessage `cbor:"op"`
	}
	if err := unmarshal(b, &outer); err != nil {
		return err
	}
	name, fields, err := variant(outer.Op)
	if err != nil {
		return fmt.Errorf("op: %w", err)
	}
	op, err := decodeOp(name, fields)
	if err != nil {
		return fmt.Errorf("op %s: %w", name, err)
	}
	r.Op = op
	return nil
}

func decodeOp(name string, fields []byte) (FSOp, error) {
	switch name {
	case "RealPath":
		return opAs[FSRealPath](fields)
	case "Stat":
		return opAs[FSStat](fields)
	case "SetStat":
		return opAs[FSSetStat](fields)
	case "List":
		return opAs[FSList](fields)
	case "ReadLink":
		return opAs[FSReadLink](fields)
	case "Symlink":
		return opAs[FSSymlink](fields)
	case "Mkdir":
		return opAs[FSMkdir](fields)
	case "Remove":
		return opAs[FSRemove](fields)
	case "RemoveDir":
		return opAs[FSRemoveDir](fields)
	case "Copy":
		return opAs[FSCopy](fields)
	case "Rename":
		return opAs[FSRename](fields)
	case "OpenFile":
		return opAs[FSOpenFile](fields)
	case "OpenDir":
		return opAs[FSOpenDir](fields)
	case "CloseHandle":
		return opAs[FSCloseHandle](fields)
	case "Read":
		return opAs[FSRead](fields)
	case "Write":
		return opAs[FSWrite](fields)
	case "ReadDir":
		return opAs[FSReadDir](fields)
	case "FStat":
		return opAs[FSFStat](fields)
	case "FSetStat":
		return opAs[FSFSetStat](fields)
	}
	return nil, errors.New("unknown file operation")
}

func opAs[T FSOp](fields []byte) (FSOp, error) {
	var op T
	err := unmarshal(fields, &op)
	return op, err
}
