package ext4

import (
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// formatter writes one file system. Blocks and inodes are handed out from the front of
// each group, so that a count says which ones are taken.
type formatter struct {
	geo      geometry
	opts     Options
	made     tree.Time
	hashSeed [4]uint32
	super    superblock
	groups   []usage
	current  uint32 // group that the next block comes from
	data     output
	inodes   output
	copyBuf  []byte
}

// format writes the file system that o, complete and valid, describes to w, which
// reads as zeros where nothing is written.
func format(w io.WriterAt, o Options) error {
	p, err := newPlan(o.Tree)
	if err != nil {
		return err
	}
	f := &formatter{opts: o, made: o.made(), data: output{w: w}, inodes: output{w: w}}
	f.fillSuper()
	f.geo = freshGeometry(uint64(o.Size)/BlockSize, f.super.checksumSeed())
	for i := range f.hashSeed {
		f.hashSeed[i] = le.Uint32(f.super[sbHashSeed+4*i:])
	}
	if limit := uint64(f.geo.groups()) * groupInodes; uint64(p.next)-1 > limit {
		return fmt.Errorf("%w: %d inodes; a file system of %d bytes has %d", ErrSpace, p.next-1, o.Size, limit)
	}
	f.groups = make([]usage, f.geo.groups())
	for i := range f.groups {
		f.groups[i].blocks = f.geo.overhead(uint32(i))
	}
	f.groups[0].inodes = firstInode - 1
	if err := f.special(p); err != nil {
		return err
	}
	for i := 1; i < len(p.slots); i++ {
		if err := f.file(p, i); err != nil {
			return err
		}
	}
	if err := f.inodes.flush(); err != nil {
		return err
	}
	return f.metadata()
}

// fillSuper sets what does not depend on the content.
func (f *formatter) fillSuper() {
	s, o := &f.super, &f.opts
	s.put16(sbMagic, magic)
	s.put32(sbRevision, 1)
	s.put16(sbState, stateValid)
	s.put16(sbErrors, 1)         // go on after an error
	s.put16(sbMaxMounts, 0xFFFF) // no check after so many mounts
	s.put32(sbLogBlock, 2)
	s.put32(sbLogCluster, 2)
	s.put32(sbGroupBlocks, groupBlocks)
	s.put32(sbGroupClusters, groupBlocks)
	s.put32(sbGroupInodes, groupInodes)
	s.put32(sbFirstInode, firstInode)
	s.put16(sbInodeSize, inodeSize)
	s.put16(sbDescSize, descSize)
	s.put32(sbCompat, compatJournal|compatExtAttr|compatDirIndex)
	s.put32(sbIncompat, incompatFileType|incompatExtents|incompat64Bit)
	s.put32(sbROCompat, roSparseSuper|roLargeFile|roHugeFile|roDirNlink|roExtraIsize|roMetadataCSum)
	copy(s[sbUUID:], o.UUID[:])
	copy(s[sbLabel:], o.Label)
	copy(s[sbHashSeed:], o.UUID[:])
	s[sbHashVersion] = hashHalfMD4
	s.put32(sbFlags, flagUnsignedHash)
	s.put32(sbMountOptions, 0x4|0x8) // user xattrs, ACLs
	s.put16(sbMinExtra, extraSize)
	s.put16(sbWantExtra, extraSize)
	s[sbChecksumType] = 1 // CRC-32C
	s.put32(sbJournalInode, inodeJournal)
	made := uint64(f.made.Sec)
	for _, at := range [...]struct{ lo, hi int }{
		{sbMakeTime, sbMakeTimeHi}, {sbWriteTime, sbWriteTimeHi}, {sbLastCheck, sbLastCheckHi},
	} {
		s.put32(at.lo, uint32(made))
		s[at.hi] = uint8(made >> 32)
	}
}

// alloc takes up to want blocks that follow each other.
func (f *formatter) alloc(want uint32) (start uint64, got uint32, err error) {
	for ; f.current < uint32(len(f.groups)); f.current++ {
		g := &f.groups[f.current]
		if free := f.geo.length(f.current) - g.blocks; free > 0 {
			start, got = f.geo.start(f.current)+uint64(g.blocks), min(want, free)
			g.blocks += got
			return start, got, nil
		}
	}
	return 0, 0, fmt.Errorf("%w of %d bytes", ErrSpace, f.opts.Size)
}

// block takes one block and writes it.
func (f *formatter) block(p []byte) (uint64, error) {
	at, _, err := f.alloc(1)
	if err != nil {
		return 0, err
	}
	return at, f.data.put(f.geo.offset(at), p)
}

// writeInode writes the record of an inode.
func (f *formatter) writeInode(n *inode, number uint32) error {
	group, offset := f.geo.inodeAt(number)
	g := &f.groups[group]
	g.inodes = max(g.inodes, (number-1)%groupInodes+1)
	if n.mode&tree.TypeMask == tree.TypeDir {
		g.dirs++
	}
	if n.links > maxLinks {
		n.links = 1
	}
	n.crtime = f.made
	at := f.geo.offset(f.geo.start(group)+uint64(f.geo.head(group))+2) + int64(offset)
	return f.inodes.put(at, n.record(f.geo.seed, number))
}

// metadata writes bitmaps, descriptors and superblocks, the primary one last.
func (f *formatter) metadata() error {
	gdt := make([]byte, f.geo.gdt*BlockSize)
	var free uint64
	var freeInodes uint32
	last := uint32(len(f.groups) - 1)
	for i := range f.groups {
		g := group{geo: &f.geo, number: uint32(i), used: f.groups[i]}
		d := descriptor(gdt[i*descSize:][:descSize])
		full := len(f.groups) <= bitmapGroups || g.number == last
		if bitmaps := g.describe(d, full); bitmaps != nil {
			if err := f.data.put(f.geo.offset(g.bitmapBlock()), bitmaps); err != nil {
				return err
			}
		}
		free += uint64(d.freeBlocks())
		freeInodes += d.freeInodes()
	}
	f.super.setBlocks(f.geo.blocks)
	f.super.setFreeBlocks(free)
	f.super.put32(sbInodes, uint32(len(f.groups))*groupInodes)
	f.super.put32(sbFreeInodes, freeInodes)
	for group := last; ; group-- {
		if f.geo.hasBackup(group) {
			if err := f.head(group, gdt); err != nil {
				return err
			}
		}
		if group == 0 {
			return f.data.flush()
		}
	}
}

// head writes superblock and descriptors at the beginning of group.
func (f *formatter) head(group uint32, gdt []byte) error {
	s := f.super
	s.put16(sbGroupNumber, uint16(group))
	s.seal()
	at := f.geo.offset(f.geo.start(group))
	if group == 0 {
		at += superOffset
	}
	if err := f.data.put(at, s[:]); err != nil {
		return err
	}
	return f.data.put(f.geo.offset(f.geo.start(group)+1), gdt)
}
