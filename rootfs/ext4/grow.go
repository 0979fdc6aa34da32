package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
)

// Features with which Grow knows that adding groups is all there is to growing.
const (
	growCompat   = compatJournal | compatExtAttr | compatResizeInode | compatDirIndex | compatOrphanFile | compatFastCommit
	growIncompat = incompatFileType | incompatRecover | incompatExtents | incompat64Bit | incompatFlexBG |
		incompatEAInode | incompatCSumSeed | incompatLargeDir | incompatInlineData | incompatEncrypt | incompatCaseFold
	growROCompat = roSparseSuper | roLargeFile | roHugeFile | roDirNlink | roExtraIsize | roQuota |
		roMetadataCSum | roProject | roVerity | roOrphanPresent
)

// Grow enlarges the file at path and the ext4 file system in it to size bytes, a
// multiple of BlockSize. A file system that is as large already stays untouched. No
// machine may be using the image: locking it is the caller's business. Images of Create,
// of microsandbox and of mke2fs with its usual features can be grown, up to where their
// reserve for group descriptors ends.
//
// If the machine that used the image ended without unmounting it, its journal is
// replayed first. Growing is itself a transaction of that journal: killed midway, the
// file system is the old one or, after the next Grow, mount or check, the new one. What
// lies behind the file system in the image is lost.
//
// Errors wrap ErrOptions, ErrNotExt4, ErrCorrupt, ErrUnsupported or ErrDirty, are a
// *CapacityError, or those of the file.
func Grow(path string, size int64) error {
	if size <= 0 || size%BlockSize != 0 {
		return fmt.Errorf("%w: size %d is no multiple of %d bytes", ErrOptions, size, BlockSize)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(grow(imageFile{f}, size), f.Close()); err != nil {
		return fmt.Errorf("grow %s: %w", path, err)
	}
	return nil
}

func grow(img image, size int64) error {
	v, err := openVolume(img)
	if err != nil {
		return err
	}
	if err := v.growable(); err != nil {
		return err
	}
	next, err := v.grown(size)
	if err != nil || next.blocks <= v.geo.blocks {
		return err
	}
	j, err := openJournal(v)
	if err != nil {
		return err
	}
	if v.super.incompat(incompatRecover) {
		before := v.geo.blocks
		if err := j.recover(); err != nil {
			return err
		}
		if v.geo.blocks != before {
			// That was the transaction of a Grow which was killed before it was done.
			gdt, err := v.read(uint64(v.geo.first)+1, v.geo.gdt)
			if err != nil {
				return err
			}
			if err := writeBackups(v, *v.super, v.geo, gdt, 1, v.geo.groups()); err != nil {
				return err
			}
		}
		return grow(img, size)
	}
	r := &grower{volume: v, next: next, blocks: make(map[uint64][]byte)}
	if err := r.plan(); err != nil {
		return err
	}
	if err := r.extend(size); err != nil {
		return err
	}
	if err := j.commit(r.changes()); err != nil {
		return err
	}
	if err := writeBackups(v, r.super, next, r.gdt, 1, r.old); err != nil {
		return err
	}
	return j.recover()
}

// growable checks that v is a file system whose layout Grow understands.
func (v *volume) growable() error {
	s, g := v.super, &v.geo
	compat, incompat, ro := s.u32(sbCompat)&^growCompat, s.u32(sbIncompat)&^growIncompat, s.u32(sbROCompat)&^growROCompat
	switch {
	case compat|incompat|ro != 0:
		return fmt.Errorf("%w: feature bits %#x, %#x and %#x", ErrUnsupported, compat, incompat, ro)
	case !s.compat(compatJournal) || !s.incompat(incompatExtents) || !s.hasChecksums() || !s.roCompat(roSparseSuper):
		return fmt.Errorf("%w: it lacks journal, extents, sparse_super or metadata_csum", ErrUnsupported)
	case g.blockSize > BlockSize || g.inodeSize < inodeBase || g.descSize > descSize:
		return fmt.Errorf("%w: blocks of %d, inodes of %d, descriptors of %d bytes", ErrUnsupported, g.blockSize, g.inodeSize, g.descSize)
	case g.reserved > 0 && !s.compat(compatResizeInode):
		return fmt.Errorf("%w: reserved descriptors without resize inode", ErrUnsupported)
	case s.u16(sbState)&(stateValid|stateError) != stateValid:
		return ErrDirty
	case g.overhead(0) >= g.groupBlocks || g.reserved > g.addresses() || g.groupInodes < firstInode:
		return fmt.Errorf("%w: groups of %d blocks and %d inodes", ErrCorrupt, g.groupBlocks, g.groupInodes)
	}
	return nil
}

// addresses is how many block numbers an indirect block holds.
func (g *geometry) addresses() uint32 { return g.blockSize / 4 }

// grown returns the geometry of v when it fills size bytes.
func (v *volume) grown(size int64) (geometry, error) {
	next := v.geo
	next.blocks = next.fit(uint64(size) / uint64(next.blockSize))
	if next.blocks <= v.geo.blocks {
		return next, nil
	}
	groups := uint64(next.gdt+next.reserved) * uint64(next.blockSize) / uint64(next.descSize)
	groups = min(groups, math.MaxUint32/uint64(next.groupInodes))
	most := min(uint64(next.first)+groups*uint64(next.groupBlocks), math.MaxUint32)
	if next.blocks > most {
		return next, &CapacityError{Want: size, Max: int64(most * uint64(next.blockSize))}
	}
	next.gdt = next.gdtFor(uint64(next.groups()))
	next.reserved -= next.gdt - v.geo.gdt
	return next, nil
}

// grower enlarges one file system. Blocks that are in use already only change in the
// transaction.
type grower struct {
	*volume
	next   geometry
	old    uint32 // groups before
	super  superblock
	gdt    []byte
	blocks map[uint64][]byte // of the transaction
	order  []uint64          // their numbers
	fresh  []freshBitmaps
}

// freshBitmaps are those of a new group, to be written at a block.
type freshBitmaps struct {
	at   uint64
	bits []byte
}

// set makes p the new content of a block.
func (r *grower) set(number uint64, p []byte) {
	if _, known := r.blocks[number]; !known {
		r.order = append(r.order, number)
	}
	r.blocks[number] = p
}

func (r *grower) changes() []change {
	all := make([]change, 0, len(r.order))
	for _, number := range r.order {
		all = append(all, change{number, r.blocks[number]})
	}
	return all
}

// plan computes all that is to be written, and writes nothing.
func (r *grower) plan() error {
	r.super, r.old = *r.volume.super, r.geo.groups()
	before, err := r.read(uint64(r.geo.first)+1, r.geo.gdt)
	if err != nil {
		return err
	}
	r.gdt = make([]byte, r.next.gdt*r.geo.blockSize)
	copy(r.gdt, before[:r.old*r.geo.descSize])
	for i := range r.old {
		if !r.descriptor(i).sealed(r.geo.seed, i) {
			return fmt.Errorf("%w: checksum of group %d is wrong", ErrCorrupt, i)
		}
	}
	if err := r.lengthen(); err != nil {
		return err
	}
	r.addGroups()
	if err := r.resizeInode(); err != nil {
		return err
	}
	for i := range r.next.gdt {
		size := int(r.geo.blockSize)
		part := r.gdt[int(i)*size:][:size]
		if i >= r.geo.gdt || !bytes.Equal(part, before[int(i)*size:][:size]) {
			r.set(uint64(r.geo.first)+1+uint64(i), part)
		}
	}
	return r.planSuper()
}

func (r *grower) descriptor(group uint32) descriptor {
	return descriptor(r.gdt[group*r.geo.descSize:][:r.geo.descSize])
}

// lengthen gives the last group the blocks that it lacks.
func (r *grower) lengthen() error {
	last := r.old - 1
	d, from, to := r.descriptor(last), r.geo.length(last), r.next.length(last)
	if from == to {
		return nil
	}
	if d.flags()&groupBlockUninit == 0 {
		bitmap, err := r.read(d.blockBitmap(), 1)
		if err != nil {
			return err
		}
		if !d.sameSum(gdBlockSum, gdBlockSumHi, r.geo.blockBitmapSum(bitmap)) {
			return fmt.Errorf("%w: checksum of the block bitmap of group %d is wrong", ErrCorrupt, last)
		}
		for bit := from; bit < to; bit++ {
			bitmap[bit/8] &^= 1 << (bit % 8)
		}
		d.setCount(gdBlockSum, gdBlockSumHi, r.geo.blockBitmapSum(bitmap))
		r.set(d.blockBitmap(), bitmap)
	}
	free := d.freeBlocks() + to - from
	if free > to {
		return fmt.Errorf("%w: %d free blocks in group %d", ErrCorrupt, d.freeBlocks(), last)
	}
	d.setCount(gdFreeBlocks, gdFreeBlocksHi, free)
	d.seal(r.geo.seed, last)
	return nil
}

// addGroups describes the new groups. Their inode tables are zero: the image ends
// before them until extend.
func (r *grower) addGroups() {
	groups := r.next.groups()
	for i := r.old; i < groups; i++ {
		g := group{geo: &r.next, number: i, used: usage{blocks: r.next.overhead(i)}}
		full := groups <= bitmapGroups || i == groups-1
		if bits := g.describe(r.descriptor(i), full); bits != nil {
			r.fresh = append(r.fresh, freshBitmaps{g.bitmapBlock(), bits})
		}
	}
}

// planSuper computes the new superblock, the last change of all: as long as it shows
// the old size, a Grow that was killed can tell. Counts of what is free come from the
// descriptors: after a crash the superblock's own are stale.
func (r *grower) planSuper() error {
	s := &r.super
	var free, freeInodes uint64
	for i := range r.next.groups() {
		free += uint64(r.descriptor(i).freeBlocks())
		freeInodes += uint64(r.descriptor(i).freeInodes())
	}
	if free > r.next.blocks || freeInodes > math.MaxUint32 {
		return fmt.Errorf("%w: more is free than there is", ErrCorrupt)
	}
	// The same part of the whole is for root alone as before.
	reserved := s.reservedBlocks()
	if reserved > r.geo.blocks/2 {
		return fmt.Errorf("%w: %d of %d blocks reserved", ErrCorrupt, reserved, r.geo.blocks)
	}
	s.setReservedBlocks(reserved * r.next.blocks / r.geo.blocks)
	s.setBlocks(r.next.blocks)
	s.setFreeBlocks(free)
	s.put32(sbInodes, r.next.groups()*r.next.groupInodes)
	s.put32(sbFreeInodes, uint32(freeInodes))
	s.put16(sbReservedGDT, uint16(r.next.reserved))
	s.put32(sbOverhead, 0) // Linux counts anew

	number, offset := superPlace(r.geo.blockSize)
	block, err := r.read(number, 1)
	if err != nil {
		return err
	}
	inLog := *s
	inLog.put32(sbIncompat, s.u32(sbIncompat)|incompatRecover)
	inLog.seal()
	copy(block[offset:], inLog[:])
	r.set(number, block)
	return nil
}

// extend gives the image its new length and writes what only the new groups hold.
func (r *grower) extend(size int64) error {
	// Cutting first makes sure that all behind the file system is zero.
	if err := r.Truncate(r.geo.offset(r.geo.blocks)); err != nil {
		return err
	}
	if err := r.Truncate(size); err != nil {
		return err
	}
	out := output{w: r.image}
	for _, f := range r.fresh {
		if err := out.put(r.geo.offset(f.at), f.bits); err != nil {
			return err
		}
	}
	if err := out.flush(); err != nil {
		return err
	}
	return writeBackups(r, r.super, r.next, r.gdt, r.old, r.next.groups())
}

// writeBackups writes the copies of superblock and descriptors that groups from to
// to-1 have, and waits until all is on the disk.
func writeBackups(img image, s superblock, g geometry, gdt []byte, from, to uint32) error {
	for i := max(from, 1); i < to; i++ {
		if !g.hasBackup(i) {
			continue
		}
		s.put16(sbGroupNumber, uint16(i))
		s.seal()
		if _, err := img.WriteAt(s[:], g.offset(g.start(i))); err != nil {
			return err
		}
		if _, err := img.WriteAt(gdt, g.offset(g.start(i)+1)); err != nil {
			return err
		}
	}
	return img.Sync()
}
