package ext4

import (
	"fmt"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// FlatSize returns how large to make a file system that holds t and leaves some room: a
// tenth more inodes, a twentieth more data but at least 64 MiB. It is a multiple of 128
// MiB, at least 256 MiB, and depends on t alone. Errors wrap ErrTree.
func FlatSize(t *tree.Tree) (int64, error) {
	p, err := newPlan(t)
	if err != nil {
		return 0, err
	}
	inodes, data := uint64(p.next), uint64(0)
	for i := range p.slots {
		if n := p.slots[i].node; n.Type() == tree.TypeRegular {
			data += divUp(uint64(n.Size), BlockSize)
		}
	}
	// Two blocks for each inode cover directories, links, xattrs and extent trees.
	need := data + max(64<<20/BlockSize, data/20) + 64<<20/BlockSize + 2*inodes
	const metadata = 772 // blocks of a group with a backup and one block of descriptors
	groups := max(2, divUp(inodes+inodes/10, groupInodes), divUp(need, groupBlocks-metadata))
	size := groups * groupBlocks * BlockSize
	if size > MaxSize {
		return 0, fmt.Errorf("%w: %d blocks of data", ErrTree, data)
	}
	return int64(size), nil
}
