package ext4

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	indexEntry  = 8  // bytes of an index entry: hash and block
	rootIndex   = 32 // where the index begins in the first block
	nodeIndex   = 8  // and in the others
	indexTail   = 8  // bytes of the checksum at an index block's end
	rootEntries = (BlockSize - rootIndex - indexTail) / indexEntry
	nodeEntries = (BlockSize - nodeIndex - indexTail) / indexEntry
)

// pointer leads from an index to the block with the names whose hashes are hash or
// greater.
type pointer struct {
	hash, block uint32
}

// index encodes an indexed directory: the root of the index in block 0, a second level
// of it if one does not suffice, then the names in order of their hashes.
func (d *directory) index(entries []dirent) ([]byte, error) {
	leaves := d.leaves(entries)
	nodes := 0
	if len(leaves) > rootEntries {
		nodes = int(divUp(uint64(len(leaves)), nodeEntries))
	}
	if nodes > rootEntries {
		return nil, fmt.Errorf("%w: a directory with %d names", ErrTree, len(entries))
	}
	content := make([]byte, (1+nodes+len(leaves))*BlockSize)
	block := func(n int) []byte { return content[n*BlockSize:][:BlockSize] }
	var level []pointer
	for i, l := range leaves {
		at := 1 + nodes + i
		level = append(level, pointer{l.hash, uint32(at)})
		d.leaf(block(at), 0, l.names)
	}
	if nodes > 0 {
		var above []pointer
		for i := range nodes {
			part := level[i*nodeEntries : min((i+1)*nodeEntries, len(level))]
			above = append(above, pointer{part[0].hash, uint32(1 + i)})
			le.PutUint16(block(1 + i)[4:], BlockSize) // one empty entry hides the rest
			d.pointers(block(1+i), nodeIndex, nodeEntries, part)
		}
		level = above
	}
	root := block(0)
	d.dots(root)
	le.PutUint16(root[12+4:], BlockSize-12) // ".." hides the rest
	root[28], root[29] = hashHalfMD4, 8     // 8: length of these fields
	if nodes > 0 {
		root[30] = 1
	}
	d.pointers(root, rootIndex, rootEntries, level)
	return content, nil
}

// leaf is a block of names in an indexed directory.
type leaf struct {
	hash  uint32
	names []dirent
}

// leaves sorts entries by hash and deals them out to blocks.
func (d *directory) leaves(entries []dirent) []leaf {
	type hashed struct {
		hash uint32
		e    dirent
	}
	sorted := make([]hashed, len(entries))
	for i, e := range entries {
		sorted[i] = hashed{nameHash(e.name, d.hashSeed), e}
	}
	slices.SortStableFunc(sorted, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
	var all []leaf
	room, last := 0, uint32(0)
	for _, h := range sorted {
		if room < h.e.size() {
			first := h.hash
			if len(all) > 0 && h.hash == last {
				first |= 1 // names of this hash continue from the block before
			}
			all = append(all, leaf{hash: first})
			room = leafSize
		}
		l := &all[len(all)-1]
		l.names = append(l.names, h.e)
		room -= h.e.size()
		last = h.hash
	}
	return all
}

// pointers writes a list of pointers at offset at of a block, most at the utmost, and
// the checksum behind them. The first one's place for a hash holds both numbers.
func (d *directory) pointers(block []byte, at, most int, list []pointer) {
	for i, p := range list {
		le.PutUint32(block[at+i*indexEntry:], p.hash)
		le.PutUint32(block[at+i*indexEntry+4:], p.block)
	}
	le.PutUint16(block[at:], uint16(most))
	le.PutUint16(block[at+2:], uint16(len(list)))
	sum := checksum(d.seed, block[:at+len(list)*indexEntry])
	le.PutUint32(block[BlockSize-4:], checksum(sum, make([]byte, indexTail)))
}
