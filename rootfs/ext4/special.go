package ext4

import "github.com/gomsb/gomsb/rootfs/tree"

const (
	addresses   = BlockSize / 4 // block numbers in an indirect block
	doubleBlock = 13            // place in i_block of the double indirect block
)

// special writes the first ten inodes that are in use: root, resize inode and journal.
// They share a block of the inode table, so they go in order of their numbers.
func (f *formatter) special(p *plan) error {
	resize, err := f.resize()
	if err != nil {
		return err
	}
	journal, err := f.journal()
	if err != nil {
		return err
	}
	if err := f.file(p, 0); err != nil {
		return err
	}
	if resize != nil {
		if err := f.writeInode(resize, inodeResize); err != nil {
			return err
		}
	}
	return f.writeInode(journal, inodeJournal)
}

// backups writes the reserved blocks of group 0, the first of which is first: the lists of
// their copies, whose first ones are copies.
func (f *formatter) backups(first uint32, copies []uint32) error {
	if len(copies) == 0 {
		return nil
	}
	list := make([]byte, BlockSize)
	for i := range f.geo.reserved {
		for n, at := range copies {
			le.PutUint32(list[n*4:], at+i)
		}
		if err := f.data.put(f.geo.offset(uint64(first+i)), list); err != nil {
			return err
		}
	}
	return nil
}

// journal takes the blocks of an empty journal. All but the first stay a hole.
func (f *formatter) journal() (*inode, error) {
	length := journalBlocks(f.geo.blocks)
	n := &inode{mode: tree.TypeRegular | 0o600, links: 1, size: uint64(length) * BlockSize, mtime: f.made}
	var e extents
	for done := uint32(0); done < length; {
		at, got, err := f.alloc(length - done)
		if err != nil {
			return nil, err
		}
		e.add(done, at, got)
		done += got
	}
	if err := f.data.put(f.geo.offset(e[0].start), freshJournal(length, f.opts.UUID)); err != nil {
		return nil, err
	}
	seed := inodeSeed(f.geo.seed, inodeJournal, 0)
	if err := extentTree(n, e, seed, f.block); err != nil {
		return nil, err
	}
	// The superblock has a copy of where the journal is.
	f.super[sbJournalKind] = 1
	copy(f.super[sbJournalBlocks:], n.block[:])
	f.super.put32(sbJournalBlocks+iblockSize, uint32(n.size>>32))
	f.super.put32(sbJournalBlocks+iblockSize+4, uint32(n.size))
	return n, nil
}

// resize builds the resize inode, which owns the blocks reserved for descriptors: its
// double indirect block lists those in group 0, each of them lists its copies in the
// groups with backups.
func (f *formatter) resize() (*inode, error) {
	if f.geo.reserved == 0 {
		return nil, nil
	}
	f.super.put32(sbCompat, f.super.u32(sbCompat)|compatResizeInode)
	f.super.put16(sbReservedGDT, uint16(f.geo.reserved))
	double := make([]byte, BlockSize)
	first := 1 + f.geo.gdt
	var copies []uint32 // the first reserved block of each group with a backup
	for group := uint32(1); group < uint32(len(f.groups)); group++ {
		if f.geo.hasBackup(group) {
			copies = append(copies, uint32(f.geo.start(group))+first)
		}
	}
	for i := range f.geo.reserved {
		le.PutUint32(double[(f.geo.gdt+i)%addresses*4:], first+i)
	}
	at, err := f.block(double)
	if err != nil {
		return nil, err
	}
	if err := f.backups(first, copies); err != nil {
		return nil, err
	}
	n := &inode{
		mode: tree.TypeRegular | 0o600, links: 1, mtime: f.made,
		size:   (12 + addresses + addresses*addresses) * BlockSize, // all that such a map reaches
		blocks: 1 + uint64(f.geo.reserved)*uint64(1+len(copies)),
	}
	le.PutUint32(n.block[doubleBlock*4:], uint32(at))
	return n, nil
}
