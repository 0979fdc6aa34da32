package erofs

import (
	"fmt"
	"strings"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Entry is one name in a directory.
type Entry struct {
	Name string
	NID  uint64
	Type uint8 // type byte of the directory entry
}

// ReadDir returns the entries of a directory without "." and "..", in stored order,
// which is checked to be byte order. limit bounds how many entries it accepts.
func (f *File) ReadDir(limit int) ([]Entry, error) {
	if !f.Inode.IsDir() {
		return nil, fmt.Errorf("%w: inode %d is no directory", ErrCorrupt, f.NID)
	}
	var all []Entry
	var last string
	block := make([]byte, BlockSize)
	for off := uint64(0); off < f.size; off += BlockSize {
		p := block[:min(BlockSize, f.size-off)]
		if _, err := (*content)(f).ReadAt(p, int64(off)); err != nil {
			return nil, err
		}
		entries, err := parseDirBlock(p)
		if err != nil {
			return nil, fmt.Errorf("directory %d: %w", f.NID, err)
		}
		for _, e := range entries {
			if e.Name <= last {
				return nil, fmt.Errorf("%w: directory %d: %q does not follow %q", ErrCorrupt, f.NID, e.Name, last)
			}
			last = e.Name
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if len(all) >= limit {
				return nil, fmt.Errorf("%w: more than %d entries", ErrUnsupported, limit)
			}
			all = append(all, e)
		}
	}
	return all, nil
}

func parseDirBlock(p []byte) ([]Entry, error) {
	if len(p) < direntSize {
		return nil, fmt.Errorf("%w: directory block of %d bytes", ErrCorrupt, len(p))
	}
	first := int(le.Uint16(p[8:]))
	if first < direntSize || first%direntSize != 0 || first > len(p) {
		return nil, fmt.Errorf("%w: first name at %d of %d", ErrCorrupt, first, len(p))
	}
	entries := make([]Entry, first/direntSize)
	for i := range entries {
		e := p[i*direntSize:]
		begin, end := int(le.Uint16(e[8:])), len(p)
		if i+1 < len(entries) {
			end = int(le.Uint16(e[direntSize+8:]))
		}
		if begin < first || begin >= end || end > len(p) {
			return nil, fmt.Errorf("%w: name from %d to %d of %d", ErrCorrupt, begin, end, len(p))
		}
		name := string(p[begin:end])
		if i+1 == len(entries) {
			name, _, _ = strings.Cut(name, "\x00") // a block that is not the last is padded
		}
		if err := tree.CheckName(name); err != nil && name != "." && name != ".." {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		entries[i] = Entry{Name: name, NID: le.Uint64(e), Type: e[10]}
	}
	return entries, nil
}

// Tree reads the whole image into a tree whose file contents stay in the image. Names
// with the same inode become hard links. It fails with ErrUnsupported beyond maxNames
// names, and with ErrCorrupt if a directory has two names, an entry's type or an
// inode's link count is wrong.
func (r *Reader) Tree(maxNames int) (*tree.Tree, error) {
	return r.load(&loader{r: r, left: maxNames})
}

// ReadLayer is Tree for the image of a single layer, as LayerWriter and others write it:
// the result holds the changes that the layer makes. Character devices 0:0 become
// whiteouts and the attributes of overlayfs opaque marks; images by LayerWriter also
// tell implicit directories and hard links into the layers below. In others a directory
// of mode 0755, root:root and time 0 counts as implicit, and link counts of directories do
// not matter. The Content of regular files is the Reader, with their Offset in the image.
func (r *Reader) ReadLayer(maxNames int) (*tree.Tree, error) {
	if len(r.extra) > 0 {
		return nil, fmt.Errorf("%w: a layer with content on other devices", ErrUnsupported)
	}
	return r.load(&loader{r: r, left: maxNames, marks: true})
}

func (r *Reader) load(l *loader) (*tree.Tree, error) {
	root, err := r.Root()
	if err != nil {
		return nil, err
	}
	l.seen = map[uint64]*loaded{}
	l.tree.Root = tree.NewDir(0)
	if err := l.dir(l.tree.Root, root, 0); err != nil {
		return nil, err
	}
	// In the layers of microsandbox 0.6.18 the root counts no subdirectories.
	trusted := !l.marks || r.OwnLayer()
	for nid, f := range l.seen {
		if f.names != f.links && (trusted || !f.node.IsDir()) {
			return nil, fmt.Errorf("%w: inode %d counts %d links but has %d", ErrCorrupt, nid, f.links, f.names)
		}
	}
	return &l.tree, nil
}

type loaded struct {
	node         *tree.Inode
	links, names uint32
}

type loader struct {
	r     *Reader
	tree  tree.Tree
	marks bool
	left  int
	used  int // bytes of xattrs and link targets
	seen  map[uint64]*loaded
}

// maxTreeBytes bounds the xattrs and link targets of a whole image: many inodes of a
// hostile one can share the same bytes.
const maxTreeBytes = 256 << 20

// dir fills node with a directory of the image.
func (l *loader) dir(node *tree.Inode, f *File, depth int) error {
	if _, twice := l.seen[f.NID]; twice {
		return fmt.Errorf("%w: directory %d has two names", ErrCorrupt, f.NID)
	}
	if depth > tree.MaxDepth {
		return fmt.Errorf("%w: more than %d directories deep", ErrUnsupported, tree.MaxDepth)
	}
	node.Describe(&f.Inode)
	if l.marks {
		unmark(node, l.r.OwnLayer())
	}
	own := &loaded{node: node, links: f.Links, names: 2}
	l.seen[f.NID] = own
	entries, err := f.ReadDir(l.left)
	if err != nil {
		return err
	}
	l.left -= len(entries)
	for _, e := range entries {
		child, err := l.child(e, depth)
		if err != nil {
			return err
		}
		if child.IsDir() {
			own.names++
		}
		if l.marks && isWhiteout(child) {
			node.SetWhiteout(e.Name)
			continue
		}
		node.Set(e.Name, child)
	}
	return nil
}

func (l *loader) child(e Entry, depth int) (*tree.Inode, error) {
	if known, ok := l.seen[e.NID]; ok && !known.node.IsDir() {
		known.names++
		return known.node, nil
	}
	f, err := l.r.File(e.NID)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", e.Name, err)
	}
	if tree.EntryType(f.Inode.Mode) != e.Type {
		return nil, fmt.Errorf("%w: %q has entry type %d and mode %#o", ErrCorrupt, e.Name, e.Type, f.Inode.Mode)
	}
	if l.used += f.weight + len(f.Inode.Target); l.used > maxTreeBytes {
		return nil, fmt.Errorf("%w: more than %d bytes of xattrs and link targets", ErrUnsupported, maxTreeBytes)
	}
	node := &tree.Inode{}
	if f.Inode.IsDir() {
		node = tree.NewDir(0)
		return node, l.dir(node, f, depth+1)
	}
	*node = f.Inode // alone, it takes less memory than all of f
	if l.marks && unmark(node, true) {
		node = l.tree.NewLink(node.Target)
	}
	l.seen[e.NID] = &loaded{node: node, links: f.Links, names: 1}
	return node, nil
}
