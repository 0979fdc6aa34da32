package erofs

import (
	"fmt"
	"math"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// slot is the place of one inode in the image.
type slot struct {
	node   *tree.Inode
	parent int      // slot number of the directory above; the root's is itself
	names  []string // directories: entries with "." and "..", in order
	offset uint64   // of the inode in the metadata area, bytes
	xattrs uint64   // bytes behind the inode
	size   uint64   // i_size
	links  uint32
	start  uint64 // first data block, relative to the data area
	inline bool   // the part of size beyond whole blocks follows inode and xattrs
}

// outside returns how many blocks of the slot's content lie in the data area.
func (s *slot) outside() uint64 {
	if s.inline {
		return s.size >> blockBits
	}
	return blocks(s.size)
}

func (s *slot) layout() uint16 {
	if s.inline {
		return layoutInline
	}
	return layoutPlain
}

// plan assigns every inode and every block of an image before anything is written, so
// that writing is one sequential pass and needs no seeking.
type plan struct {
	slots []slot
	index map[*tree.Inode]int
	meta  uint64 // bytes of the metadata area used so far
	data  uint64 // blocks of the data area
}

func newPlan(t *tree.Tree) (*plan, error) {
	if t == nil || t.Root == nil || !t.Root.IsDir() {
		return nil, fmt.Errorf("%w: the root is no directory", ErrTree)
	}
	p := &plan{index: make(map[*tree.Inode]int)}
	if err := p.add("", t.Root, 0, 0); err != nil {
		return nil, err
	}
	if total := p.firstData() + p.data; total >= noBlock {
		return nil, fmt.Errorf("%w: %d blocks; the format holds %d", ErrTree, total, uint32(noBlock)-1)
	}
	return p, nil
}

// firstData is the block where the data area begins: behind superblock and metadata.
func (p *plan) firstData() uint64 { return 1 + blocks(p.meta) }

func (p *plan) nid(number int) uint64 { return p.slots[number].offset >> slotBits }

// add plans node and, for a directory, everything below it, parents first.
func (p *plan) add(path string, node *tree.Inode, parent, depth int) error {
	if at, known := p.index[node]; known {
		if node.IsDir() {
			return fmt.Errorf("%w: directory %q has a second name", ErrTree, path)
		}
		p.slots[at].links++
		return nil
	}
	if depth > tree.MaxDepth {
		return fmt.Errorf("%w: %.200q is more than %d directories deep", ErrTree, path, tree.MaxDepth)
	}
	s, err := newSlot(node)
	if err != nil {
		return fmt.Errorf("%.200q: %w", path, err)
	}
	s.parent = parent
	p.place(&s)
	number := len(p.slots)
	p.index[node] = number
	p.slots = append(p.slots, s)
	for _, name := range s.names {
		if name == "." || name == ".." {
			continue
		}
		if err := tree.CheckName(name); err != nil {
			return fmt.Errorf("%w: in directory %.200q: %w", ErrTree, path, err)
		}
		child := node.Child(name)
		if err := p.add(path+"/"+name, child, number, depth+1); err != nil {
			return err
		}
		if child.IsDir() {
			p.slots[number].links++
		}
	}
	return nil
}

func newSlot(node *tree.Inode) (slot, error) {
	s := slot{node: node, links: 1}
	var err error
	if s.xattrs, err = xattrSize(node); err != nil {
		return s, err
	}
	if node.MTime.Nsec >= 1e9 {
		return s, fmt.Errorf("%w: modification time has %d nanoseconds", ErrTree, node.MTime.Nsec)
	}
	switch node.Type() {
	case tree.TypeDir:
		s.names = dirNames(node.Names())
		s.size = dirSize(s.names)
		s.links = 2
	case tree.TypeRegular:
		if node.Size < 0 || node.Size > 0 && node.Content == nil {
			return s, fmt.Errorf("%w: size %d without content", ErrTree, node.Size)
		}
		s.size = uint64(node.Size)
	case tree.TypeSymlink:
		s.size = uint64(len(node.Target))
		if s.size == 0 || s.size > maxTarget {
			return s, fmt.Errorf("%w: symbolic link target of %d bytes", ErrTree, s.size)
		}
	case tree.TypeChar, tree.TypeBlock:
		if node.Major > maxMajor || node.Minor > maxMinor {
			return s, fmt.Errorf("%w: device number %d:%d beyond %d:%d", ErrTree, node.Major, node.Minor, maxMajor, maxMinor)
		}
	case tree.TypeFIFO, tree.TypeSocket:
	default:
		return s, fmt.Errorf("%w: unknown file type %#o", ErrTree, node.Type())
	}
	if s.size > math.MaxUint32<<blockBits {
		return s, fmt.Errorf("%w: %d bytes in one file", ErrTree, s.size)
	}
	return s, nil
}

// place assigns the inode and its data. The tail of a directory or symbolic link goes
// behind the inode if it fits there without crossing a block, which the format
// forbids. Regular files never do that: each of their blocks keeps an address of its
// own, by which a merged image can refer to it.
func (p *plan) place(s *slot) {
	s.offset = align(p.meta, slotSize)
	end := s.offset + extendedSize + s.xattrs
	tail := s.size % BlockSize
	if t := s.node.Type(); tail != 0 && (t == tree.TypeDir || t == tree.TypeSymlink) {
		s.inline = end%BlockSize+tail <= BlockSize
	}
	if s.inline {
		end += tail
	}
	p.meta = end
	s.start = p.data
	p.data += s.outside()
}
