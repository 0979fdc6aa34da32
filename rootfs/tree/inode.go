package tree

import (
	"io"
	"slices"
)

// File type bits of Inode.Mode, as in stat(2) on Linux.
const (
	TypeMask    uint32 = 0o170000
	TypeSocket  uint32 = 0o140000
	TypeSymlink uint32 = 0o120000
	TypeRegular uint32 = 0o100000
	TypeBlock   uint32 = 0o060000
	TypeDir     uint32 = 0o040000
	TypeChar    uint32 = 0o020000
	TypeFIFO    uint32 = 0o010000
	// TypeLink is no type of Linux: it stands in a layer's changes for a hard link to a
	// file of the layers below, whose path is Target. Merge resolves it.
	TypeLink uint32 = 0
	// PermMask covers permissions, set-user-ID, set-group-ID and sticky.
	PermMask uint32 = 0o7777
)

// ReservedXattr prefixes attributes by which images of single layers keep what only a
// merge understands. No file of a layer may bring its own.
const ReservedXattr = "trusted.gomsb."

// Time is a modification time: seconds since 1970 (negative before) and nanoseconds
// in [0, 1e9).
type Time struct {
	Sec  int64
	Nsec uint32
}

// Xattr is one extended attribute with its full name, such as "security.capability".
type Xattr struct {
	Name  string
	Value []byte
}

// Inode is one file. Two names that hold the same *Inode are hard links of each
// other; a directory has exactly one name.
type Inode struct {
	Mode         uint32 // type and permission bits
	UID, GID     uint32
	Major, Minor uint32 // device number of TypeChar and TypeBlock
	MTime        Time
	Size         int64       // bytes of content; TypeRegular only
	Content      io.ReaderAt // holds Size bytes from Offset on; nil if Size is 0
	Offset       int64
	Target       string  // TypeSymlink and TypeLink only
	Xattrs       []Xattr // sorted by name, no name twice
	// Implicit marks a directory that a layer never described, only used as a parent.
	// A merge keeps the attributes of the directory below it.
	Implicit bool

	dir *directory // TypeDir only
}

// directory is apart from Inode so that a million plain files stay small.
type directory struct {
	children  map[string]*Inode
	whiteouts map[string]struct{}
	opaque    bool
}

// NewDir returns an empty directory owned by root with permission bits perm.
func NewDir(perm uint32) *Inode {
	return &Inode{Mode: TypeDir | perm&PermMask, dir: &directory{}}
}

// Type returns the type bits of Mode.
func (n *Inode) Type() uint32 { return n.Mode & TypeMask }

// IsDir reports whether n is a directory.
func (n *Inode) IsDir() bool { return n.Type() == TypeDir }

// Child returns the inode called name in directory n, nil if there is none or n is no
// directory.
func (n *Inode) Child(name string) *Inode {
	if n.dir == nil {
		return nil
	}
	return n.dir.children[name]
}

// Names returns the names in directory n in byte order.
func (n *Inode) Names() []string {
	if n.dir == nil || len(n.dir.children) == 0 {
		return nil
	}
	names := make([]string, 0, len(n.dir.children))
	for name := range n.dir.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Len returns the number of names in directory n.
func (n *Inode) Len() int {
	if n.dir == nil {
		return 0
	}
	return len(n.dir.children)
}

// Whiteouts returns, in byte order, the names that directory n hides in the layers
// below it.
func (n *Inode) Whiteouts() []string {
	if n.dir == nil || len(n.dir.whiteouts) == 0 {
		return nil
	}
	names := make([]string, 0, len(n.dir.whiteouts))
	for name := range n.dir.whiteouts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Hides reports whether directory n hides name in the layers below it.
func (n *Inode) Hides(name string) bool {
	if n.dir == nil {
		return false
	}
	_, ok := n.dir.whiteouts[name]
	return ok
}

// Opaque reports whether directory n hides everything the layers below it have there.
func (n *Inode) Opaque() bool { return n.dir != nil && n.dir.opaque }

// Xattr returns the value of one extended attribute.
func (n *Inode) Xattr(name string) ([]byte, bool) {
	i, ok := slices.BinarySearchFunc(n.Xattrs, name, compareXattr)
	if !ok {
		return nil, false
	}
	return n.Xattrs[i].Value, true
}

// SetXattr sets one extended attribute, keeping Xattrs sorted. The value is retained.
func (n *Inode) SetXattr(name string, value []byte) {
	i, ok := slices.BinarySearchFunc(n.Xattrs, name, compareXattr)
	if ok {
		n.Xattrs[i].Value = value
		return
	}
	n.Xattrs = slices.Insert(n.Xattrs, i, Xattr{Name: name, Value: value})
}

func compareXattr(x Xattr, name string) int {
	switch {
	case x.Name < name:
		return -1
	case x.Name > name:
		return 1
	}
	return 0
}

// Reader returns the content of a regular file from its start.
func (n *Inode) Reader() *io.SectionReader {
	if n.Content == nil {
		return io.NewSectionReader(empty{}, 0, 0)
	}
	return io.NewSectionReader(n.Content, n.Offset, n.Size)
}

type empty struct{}

func (empty) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
