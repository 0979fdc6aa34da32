package ext4

import "fmt"

// resizeInode turns reserved blocks into descriptor blocks, if there are more of those
// now, and lists for the others their copies in the new groups. See formatter.resize
// for what the inode holds.
func (r *grower) resizeInode() error {
	if r.geo.reserved == 0 {
		return nil
	}
	used := r.next.gdt - r.geo.gdt
	before, added := r.copies(0, r.old), r.copies(r.old, r.next.groups())
	if used == 0 && len(added) == 0 {
		return nil
	}
	if len(before)+len(added) > int(r.geo.addresses()) {
		return fmt.Errorf("%w: %d copies of the superblock", ErrUnsupported, len(before)+len(added))
	}
	table, at, offset, err := r.inode(inodeResize)
	if err != nil {
		return err
	}
	n := table[offset:][:r.geo.inodeSize]
	doubleAt := uint64(le.Uint32(n[inBlock+doubleBlock*4:]))
	double, err := r.read(doubleAt, 1)
	if err != nil {
		return err
	}
	first := r.geo.first + 1 + r.geo.gdt
	for i := range r.geo.reserved {
		place := double[(r.geo.gdt+i)%r.geo.addresses()*4:]
		if le.Uint32(place) != first+i {
			return fmt.Errorf("%w: the resize inode lacks block %d", ErrCorrupt, first+i)
		}
		if i < used {
			le.PutUint32(place, 0)
			continue
		}
		if err := r.listCopies(first+i, 1+r.geo.gdt+i, before, added); err != nil {
			return err
		}
	}
	if used > 0 {
		r.set(doubleAt, double)
	}
	sectors := uint64(r.geo.blockSize / 512)
	blocks := uint64(le.Uint32(n[inBlocksLo:])) | uint64(le.Uint16(n[inBlocksHi:]))<<32
	if want := sectors * (1 + uint64(r.geo.reserved)*uint64(1+len(before))); blocks != want {
		return fmt.Errorf("%w: the resize inode has %d sectors, not %d", ErrCorrupt, blocks, want)
	}
	blocks = sectors * (1 + uint64(r.next.reserved)*uint64(1+len(before)+len(added)))
	le.PutUint32(n[inBlocksLo:], uint32(blocks))
	le.PutUint16(n[inBlocksHi:], uint16(blocks>>32))
	sealInode(n, r.geo.seed, inodeResize)
	r.set(at, table)
	return nil
}

// copies returns which of groups from to to-1 hold copies of the descriptors.
func (r *grower) copies(from, to uint32) (groups []uint32) {
	for i := max(from, 1); i < to; i++ {
		if r.next.hasBackup(i) {
			groups = append(groups, i)
		}
	}
	return groups
}

// listCopies checks the list in reserved block number, whose copies lie offset blocks
// into their groups, and appends those in added.
func (r *grower) listCopies(number, offset uint32, before, added []uint32) error {
	list, err := r.read(uint64(number), 1)
	if err != nil {
		return err
	}
	for i, group := range before {
		if le.Uint32(list[i*4:]) != uint32(r.geo.start(group))+offset {
			return fmt.Errorf("%w: reserved block %d does not list its copy in group %d", ErrCorrupt, number, group)
		}
	}
	if len(added) == 0 {
		return nil
	}
	for i, group := range added {
		le.PutUint32(list[(len(before)+i)*4:], uint32(r.next.start(group))+offset)
	}
	r.set(uint64(number), list)
	return nil
}
