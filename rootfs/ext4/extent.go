package ext4

import "fmt"

const (
	extentMagic   = 0xF30A
	extentSize    = 12                                    // bytes of an entry and of the header
	extentsInode  = 4                                     // entries in i_block
	extentsBlock  = (BlockSize - extentSize) / extentSize // entries in a block
	extentsTail   = extentSize + extentsBlock*extentSize  // where its checksum lies
	maxExtent     = 32768                                 // blocks that one extent may map
	maxFileBlocks = 1<<32 - 1                             // logical block numbers have 32 bits
	maxDepth      = 5
)

// extent maps length blocks of a file from logical on to blocks from start on.
type extent struct {
	logical, length uint32
	start           uint64
}

// extents is a file's map in order of logical blocks.
type extents []extent

// add maps another length blocks, which lie behind those mapped so far.
func (e *extents) add(logical uint32, start uint64, length uint32) {
	for length > 0 {
		part := min(length, maxExtent)
		if n := len(*e); n > 0 {
			last := &(*e)[n-1]
			if last.logical+last.length == logical && last.start+uint64(last.length) == start && last.length < maxExtent {
				part = min(part, maxExtent-last.length)
				last.length += part
				logical, start, length = logical+part, start+uint64(part), length-part
				continue
			}
		}
		*e = append(*e, extent{logical, part, start})
		logical, start, length = logical+part, start+uint64(part), length-part
	}
}

func (e extents) blocks() (n uint64) {
	for i := range e {
		n += uint64(e[i].length)
	}
	return n
}

// entries encodes the leaves of the tree.
func (e extents) entries() []byte {
	p := make([]byte, 0, len(e)*extentSize)
	for _, x := range e {
		p = le.AppendUint32(p, x.logical)
		p = le.AppendUint16(p, uint16(x.length))
		p = le.AppendUint16(p, uint16(x.start>>32))
		p = le.AppendUint32(p, uint32(x.start))
	}
	return p
}

// extentNode encodes header and entries of one node that has room for most entries.
func extentNode(p, entries []byte, most, depth int) {
	le.PutUint16(p[0:], extentMagic)
	le.PutUint16(p[2:], uint16(len(entries)/extentSize))
	le.PutUint16(p[4:], uint16(most))
	le.PutUint16(p[6:], uint16(depth))
	copy(p[extentSize:], entries)
}

// extentTree stores e as the map of n: in the inode if it fits, else in blocks that
// store takes, level by level. seed is the inode's.
func extentTree(n *inode, e extents, seed uint32, store func(block []byte) (uint64, error)) error {
	n.flags |= inodeExtents
	n.blocks += e.blocks()
	level, depth := e.entries(), 0
	for ; len(level) > extentsInode*extentSize; depth++ {
		var above []byte
		for len(level) > 0 {
			entries := level[:min(len(level), extentsBlock*extentSize)]
			block := make([]byte, BlockSize)
			extentNode(block, entries, extentsBlock, depth)
			le.PutUint32(block[extentsTail:], checksum(seed, block[:extentsTail]))
			at, err := store(block)
			if err != nil {
				return err
			}
			n.blocks++
			above = append(above, entries[:4]...) // first logical block
			above = le.AppendUint32(above, uint32(at))
			above = le.AppendUint32(above, uint32(at>>32))
			level = level[len(entries):]
		}
		level = above
	}
	extentNode(n.block[:], level, extentsInode, depth)
	return nil
}

// maxJournalExtents bounds how fragmented a file readExtents follows.
const maxJournalExtents = 1 << 16

// readExtents returns the map of the inode whose i_block is root; seed is the inode's.
// Every extent lies within the file system, in order of logical blocks.
func (v *volume) readExtents(root []byte, seed uint32) (extents, error) {
	var all extents
	var walk func(node []byte, depth int) error
	walk = func(node []byte, depth int) error {
		count := int(le.Uint16(node[2:]))
		if le.Uint16(node) != extentMagic || int(le.Uint16(node[6:])) != depth || extentSize+count*extentSize > len(node) {
			return fmt.Errorf("%w: malformed extent tree", ErrCorrupt)
		}
		for i := range count {
			p := node[extentSize+i*extentSize:]
			if depth == 0 {
				x := extent{le.Uint32(p), uint32(le.Uint16(p[4:])), uint64(le.Uint16(p[6:]))<<32 | uint64(le.Uint32(p[8:]))}
				if err := v.checkExtent(all, x); err != nil {
					return err
				}
				all = append(all, x)
				continue
			}
			below, err := v.read(uint64(le.Uint32(p[4:]))|uint64(le.Uint16(p[8:]))<<32, 1)
			if err != nil {
				return err
			}
			most := int(v.geo.blockSize-extentSize) / extentSize
			tail := extentSize + most*extentSize
			if le.Uint32(below[tail:]) != checksum(seed, below[:tail]) {
				return fmt.Errorf("%w: checksum of an extent block is wrong", ErrCorrupt)
			}
			// Each node yields an extent, so maxJournalExtents bounds the walk.
			before := len(all)
			if err := walk(below[:tail], depth-1); err != nil {
				return err
			}
			if len(all) == before {
				return fmt.Errorf("%w: empty extent block", ErrCorrupt)
			}
		}
		return nil
	}
	depth := int(le.Uint16(root[6:]))
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: extent tree of depth %d", ErrCorrupt, depth)
	}
	return all, walk(root, depth)
}

func (v *volume) checkExtent(before extents, x extent) error {
	var next uint64
	if n := len(before); n > 0 {
		next = uint64(before[n-1].logical) + uint64(before[n-1].length)
	}
	switch {
	case x.length == 0 || x.length > maxExtent || uint64(x.logical) < next:
		return fmt.Errorf("%w: malformed extent", ErrCorrupt)
	case x.start >= v.geo.blocks || uint64(x.length) > v.geo.blocks-x.start:
		return fmt.Errorf("%w: extent from block %d lies outside", ErrCorrupt, x.start)
	case len(before) >= maxJournalExtents:
		return fmt.Errorf("%w: more than %d extents", ErrUnsupported, maxJournalExtents)
	}
	return nil
}
