package ext4

import (
	"fmt"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// slot is one inode to be written.
type slot struct {
	node    *tree.Inode
	number  uint32
	parent  uint32  // inode number of the directory above; the root's is itself
	links   uint32  // beyond maxLinks for a directory with many subdirectories
	entries []entry // of a directory, in order
	opaque  bool    // hides what lies below it in an overlay
}

type entry struct {
	name string
	slot int
}

// plan numbers every inode before anything is written: a directory holds the numbers
// of what lies in it.
type plan struct {
	slots []slot
	index map[*tree.Inode]int
	next  uint32 // inode number
}

func newPlan(t *tree.Tree) (*plan, error) {
	if t == nil || t.Root == nil || !t.Root.IsDir() {
		return nil, fmt.Errorf("%w: the root is no directory", ErrTree)
	}
	p := &plan{index: make(map[*tree.Inode]int), next: firstInode}
	_, err := p.add("", t.Root, inodeRoot, 0, false)
	return p, err
}

// add plans node and, for a directory, everything below it, parents first.
func (p *plan) add(path string, node *tree.Inode, parent uint32, depth int, opaque bool) (number int, err error) {
	if at, known := p.index[node]; known {
		if node.IsDir() {
			return 0, fmt.Errorf("%w: directory %q has a second name", ErrTree, path)
		}
		if p.slots[at].links++; p.slots[at].links > maxLinks {
			return 0, fmt.Errorf("%w: %.200q has more than %d names", ErrTree, path, maxLinks)
		}
		return at, nil
	}
	if depth > tree.MaxDepth {
		return 0, fmt.Errorf("%w: %.200q is more than %d directories deep", ErrTree, path, tree.MaxDepth)
	}
	if err := checkNode(node); err != nil {
		return 0, fmt.Errorf("%.200q: %w", path, err)
	}
	number = p.push(slot{node: node, parent: parent, links: 1, opaque: opaque || node.Opaque()})
	p.index[node] = number
	if !node.IsDir() {
		return number, nil
	}
	return number, p.addEntries(path, number, depth)
}

// push appends a slot with the next inode number.
func (p *plan) push(s slot) int {
	if len(p.slots) == 0 {
		s.number = inodeRoot
	} else {
		s.number = p.next
		p.next++
	}
	p.slots = append(p.slots, s)
	return len(p.slots) - 1
}

// addEntries plans what lies in the directory of slot number: its names, then the
// whiteouts as devices 0:0. A directory in whose place another one was hidden must go
// on hiding that, so it becomes opaque.
func (p *plan) addEntries(path string, number, depth int) error {
	node, self := p.slots[number].node, p.slots[number].number
	hidden := make(map[string]bool)
	for _, name := range node.Whiteouts() {
		hidden[name] = true
	}
	var entries []entry
	links := uint32(2)
	for _, name := range node.Names() {
		if err := tree.CheckName(name); err != nil {
			return fmt.Errorf("%w: in directory %.200q: %w", ErrTree, path, err)
		}
		child := node.Child(name)
		at, err := p.add(path+"/"+name, child, self, depth+1, hidden[name] && child.IsDir())
		if err != nil {
			return err
		}
		if child.IsDir() {
			links++
		}
		entries = append(entries, entry{name, at})
	}
	for _, name := range node.Whiteouts() {
		if err := tree.CheckName(name); err != nil {
			return fmt.Errorf("%w: in directory %.200q: %w", ErrTree, path, err)
		}
		if node.Child(name) == nil {
			at := p.push(slot{node: &tree.Inode{Mode: tree.TypeChar}, parent: self, links: 1})
			entries = append(entries, entry{name, at})
		}
	}
	p.slots[number].entries, p.slots[number].links = entries, links
	return nil
}

// path returns a name of slot number, for errors.
func (p *plan) path(number int) string {
	path := ""
	for number != 0 {
		above := 0
		if parent := p.slots[number].parent; parent != inodeRoot {
			above = int(parent-firstInode) + 1 // slots are in order of inode numbers
		}
		for _, e := range p.slots[above].entries {
			if e.slot == number {
				path = "/" + e.name + path
				break
			}
		}
		number = above
	}
	return path
}

const (
	maxMajor  = 1<<12 - 1
	maxMinor  = 1<<20 - 1
	maxTarget = BlockSize - 1 // of a symbolic link, in bytes
)

func checkNode(node *tree.Inode) error {
	if node.MTime.Nsec >= 1e9 {
		return fmt.Errorf("%w: modification time has %d nanoseconds", ErrTree, node.MTime.Nsec)
	}
	switch node.Type() {
	case tree.TypeDir, tree.TypeFIFO, tree.TypeSocket:
	case tree.TypeRegular:
		if node.Size < 0 || node.Size > 0 && node.Content == nil {
			return fmt.Errorf("%w: size %d without content", ErrTree, node.Size)
		}
		if node.Size > maxFileBlocks*BlockSize {
			return fmt.Errorf("%w: %d bytes in one file", ErrTree, node.Size)
		}
	case tree.TypeSymlink:
		if len(node.Target) == 0 || len(node.Target) > maxTarget {
			return fmt.Errorf("%w: symbolic link target of %d bytes", ErrTree, len(node.Target))
		}
	case tree.TypeChar, tree.TypeBlock:
		if node.Major > maxMajor || node.Minor > maxMinor {
			return fmt.Errorf("%w: device number %d:%d beyond %d:%d", ErrTree, node.Major, node.Minor, maxMajor, maxMinor)
		}
	default:
		return fmt.Errorf("%w: unknown file type %#o", ErrTree, node.Type())
	}
	return nil
}
