package erofs

import (
	"fmt"
	"io"
	"math"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// slot is the place of one inode in the image.
type slot struct {
	node    *tree.Inode
	names   []string // directories: entries with "." and "..", in order
	entries []int    // slot numbers of the names
	offset  uint64   // of the inode in the metadata area, bytes
	xattrs  uint64   // bytes behind the inode
	size    uint64   // i_size
	links   uint32
	start   uint64 // first data block: in the data area, or of a stored file
	layout  uint16
	opaque  bool   // directory of a layer that hides what is below it
	chunks  uint64 // chunk indexes behind inode and xattrs
	bits    uint8  // blocks in a chunk, as a power of two
	device  uint16
}

// mode is what the inode says of its type and permissions.
func (s *slot) mode() uint32 {
	if s.node.Type() == tree.TypeLink {
		return tree.TypeSymlink | 0o777
	}
	return s.node.Mode
}

// outside returns how many blocks of the slot's content lie outside of the metadata.
func (s *slot) outside() uint64 {
	if s.layout == layoutInline {
		return s.size >> blockBits
	}
	return blocks(s.size)
}

// plan assigns every inode and every block of an image before anything is written, so
// that writing is one sequential pass and needs no seeking.
type plan struct {
	slots []slot
	index map[*tree.Inode]int
	begin uint64 // block where the metadata area begins
	meta  uint64 // bytes of the metadata area used so far
	data  uint64 // blocks of the data area
	marks bool   // the tree holds the changes of one layer; its marks become files and xattrs
	// stored is the image's own content when files are written as they come; files then
	// lie where Inode.Offset says.
	stored io.ReaderAt
	// devices numbers the images that hold the content of a merged tree, from 1 on.
	devices map[io.ReaderAt]uint16
}

// build plans t; the fields that say how are set.
func (p *plan) build(t *tree.Tree) error {
	if t == nil || t.Root == nil || !t.Root.IsDir() {
		return fmt.Errorf("%w: the root is no directory", ErrTree)
	}
	p.index = make(map[*tree.Inode]int)
	if _, err := p.add("", t.Root, 0, 0, false); err != nil {
		return err
	}
	if total := p.total(); total >= noBlock {
		return fmt.Errorf("%w: %d blocks; the format holds %d", ErrTree, total, uint32(noBlock)-1)
	}
	return nil
}

// firstData is the block where the data area begins: behind the metadata.
func (p *plan) firstData() uint64 { return p.begin + blocks(p.meta) }

// total is the length of the image in blocks.
func (p *plan) total() uint64 { return p.firstData() + p.data }

func (p *plan) nid(number int) uint64 { return p.slots[number].offset >> slotBits }

// add plans node and, for a directory, everything below it, parents first, and returns
// the number of its slot. opaque says that its parent hides what node lies over.
func (p *plan) add(path string, node *tree.Inode, parent, depth int, opaque bool) (int, error) {
	if at, known := p.index[node]; known {
		if node.IsDir() {
			return 0, fmt.Errorf("%w: directory %q has a second name", ErrTree, path)
		}
		p.slots[at].links++
		return at, nil
	}
	if depth > tree.MaxDepth {
		return 0, fmt.Errorf("%w: %.200q is more than %d directories deep", ErrTree, path, tree.MaxDepth)
	}
	s, err := p.newSlot(node, opaque)
	if err != nil {
		return 0, fmt.Errorf("%.200q: %w", path, err)
	}
	p.place(&s)
	number := len(p.slots)
	p.index[node] = number
	p.slots = append(p.slots, s)
	if !node.IsDir() {
		return number, nil
	}
	entries := make([]int, len(s.names))
	for i, name := range s.names {
		if name == "." || name == ".." {
			if entries[i] = parent; name == "." {
				entries[i] = number
			}
			continue
		}
		if entries[i], err = p.child(path, node, name, number, depth+1); err != nil {
			return 0, err
		}
		if p.slots[entries[i]].node.IsDir() {
			p.slots[number].links++
		}
	}
	p.slots[number].entries = entries
	return number, nil
}

func (p *plan) child(path string, dir *tree.Inode, name string, number, depth int) (int, error) {
	if err := tree.CheckName(name); err != nil {
		return 0, fmt.Errorf("%w: in directory %.200q: %w", ErrTree, path, err)
	}
	child, hidden := dir.Child(name), p.marks && dir.Hides(name)
	if child == nil {
		child = &tree.Inode{Mode: tree.TypeChar} // a whiteout
	}
	return p.add(path+"/"+name, child, number, depth, hidden)
}

func (p *plan) newSlot(node *tree.Inode, opaque bool) (slot, error) {
	s := slot{node: node, links: 1, opaque: p.marks && node.IsDir() && (opaque || node.Opaque())}
	var err error
	if s.xattrs, err = xattrSize(p.xattrs(&s)); err != nil {
		return s, err
	}
	if node.MTime.Nsec >= 1e9 {
		return s, fmt.Errorf("%w: modification time has %d nanoseconds", ErrTree, node.MTime.Nsec)
	}
	switch node.Type() {
	case tree.TypeDir:
		names := node.Names()
		if p.marks {
			names = append(names, node.Whiteouts()...)
		}
		s.names = dirNames(names)
		s.size = dirSize(s.names)
		s.links = 2
	case tree.TypeRegular:
		if node.Size < 0 || node.Size > 0 && node.Content == nil {
			return s, fmt.Errorf("%w: size %d without content", ErrTree, node.Size)
		}
		s.size = uint64(node.Size)
	case tree.TypeSymlink:
		s.size = uint64(len(node.Target))
	case tree.TypeChar, tree.TypeBlock:
		if node.Major > maxMajor || node.Minor > maxMinor {
			return s, fmt.Errorf("%w: device number %d:%d beyond %d:%d", ErrTree, node.Major, node.Minor, maxMajor, maxMinor)
		}
	case tree.TypeFIFO, tree.TypeSocket:
	case tree.TypeLink:
		if !p.marks {
			return s, fmt.Errorf("%w: a hard link into another layer", ErrTree)
		}
		s.size = uint64(len(linkTarget(node)))
	default:
		return s, fmt.Errorf("%w: unknown file type %#o", ErrTree, node.Type())
	}
	return s, p.checkSize(&s)
}

func (p *plan) checkSize(s *slot) error {
	switch s.node.Type() {
	case tree.TypeSymlink, tree.TypeLink:
		if s.size == 0 || s.size > maxTarget {
			return fmt.Errorf("%w: link target of %d bytes", ErrTree, s.size)
		}
	case tree.TypeRegular:
		if s.size > math.MaxUint32<<blockBits {
			return fmt.Errorf("%w: %d bytes in one file", ErrTree, s.size)
		}
		if p.devices != nil || p.stored != nil {
			return p.refer(s)
		}
	}
	return nil
}

// refer notes where the content of a regular file lies already.
func (p *plan) refer(s *slot) error {
	n := s.node
	if n.Size == 0 {
		return nil
	}
	if n.Offset < 0 || n.Offset%BlockSize != 0 || uint64(n.Offset)>>blockBits >= noBlock {
		return fmt.Errorf("%w: content at byte %d", ErrTree, n.Offset)
	}
	s.start = uint64(n.Offset) >> blockBits
	if p.stored != nil {
		if n.Content != p.stored {
			return fmt.Errorf("%w: content that is not in the image", ErrTree)
		}
		return nil
	}
	var known bool
	if s.device, known = p.devices[n.Content]; !known {
		return fmt.Errorf("%w: content on an unknown device", ErrTree)
	}
	// Files lie in one piece, so few large chunks describe them.
	for s.bits < maxChunkBits && blocks(s.size) > 1<<s.bits {
		s.bits++
	}
	s.layout = layoutChunks
	s.chunks = (blocks(s.size) + 1<<s.bits - 1) >> s.bits
	return nil
}

// place assigns the inode and its data. The tail of a directory or symbolic link goes
// behind the inode if it fits there without crossing a block, which the format
// forbids. Regular files never do that: each of their blocks keeps an address of its
// own, by which a merged image can refer to it.
func (p *plan) place(s *slot) {
	s.offset = align(p.meta, slotSize)
	end := s.offset + extendedSize + s.xattrs
	if s.chunks > 0 {
		p.meta = align(end, chunkEntry) + s.chunks*chunkEntry
		return
	}
	tail := s.size % BlockSize
	if tail != 0 && s.node.Type() != tree.TypeRegular && end%BlockSize+tail <= BlockSize {
		s.layout = layoutInline
		end += tail
	}
	p.meta = end
	if p.stored == nil || s.node.Type() != tree.TypeRegular {
		s.start = p.data
		p.data += s.outside()
	}
}
