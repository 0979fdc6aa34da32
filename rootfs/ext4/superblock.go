package ext4

import (
	"bytes"
	"fmt"
	"io"
)

// Offsets in the superblock.
const (
	sbInodes        = 0x00
	sbBlocksLo      = 0x04
	sbReservedLo    = 0x08
	sbFreeBlocksLo  = 0x0C
	sbFreeInodes    = 0x10
	sbFirstBlock    = 0x14
	sbLogBlock      = 0x18
	sbLogCluster    = 0x1C
	sbGroupBlocks   = 0x20
	sbGroupClusters = 0x24
	sbGroupInodes   = 0x28
	sbWriteTime     = 0x30
	sbMaxMounts     = 0x36
	sbMagic         = 0x38
	sbState         = 0x3A
	sbErrors        = 0x3C
	sbLastCheck     = 0x40
	sbRevision      = 0x4C
	sbFirstInode    = 0x54
	sbInodeSize     = 0x58
	sbGroupNumber   = 0x5A
	sbCompat        = 0x5C
	sbIncompat      = 0x60
	sbROCompat      = 0x64
	sbUUID          = 0x68
	sbLabel         = 0x78
	sbReservedGDT   = 0xCE
	sbJournalInode  = 0xE0
	sbHashSeed      = 0xEC
	sbHashVersion   = 0xFC
	sbJournalKind   = 0xFD
	sbDescSize      = 0xFE
	sbMountOptions  = 0x100
	sbMakeTime      = 0x108
	sbJournalBlocks = 0x10C
	sbBlocksHi      = 0x150
	sbReservedHi    = 0x154
	sbFreeBlocksHi  = 0x158
	sbMinExtra      = 0x15C
	sbWantExtra     = 0x15E
	sbFlags         = 0x160
	sbChecksumType  = 0x175
	sbOverhead      = 0x248
	sbChecksumSeed  = 0x270
	sbWriteTimeHi   = 0x274
	sbMakeTimeHi    = 0x276
	sbLastCheckHi   = 0x277
	sbChecksum      = 0x3FC

	labelSize = 16
)

// superblock is one in its encoded form. Only 64-bit file systems have the high halves
// of block counts.
type superblock [superSize]byte

func (s *superblock) u16(off int) uint16         { return le.Uint16(s[off:]) }
func (s *superblock) u32(off int) uint32         { return le.Uint32(s[off:]) }
func (s *superblock) put16(off int, v uint16)    { le.PutUint16(s[off:], v) }
func (s *superblock) put32(off int, v uint32)    { le.PutUint32(s[off:], v) }
func (s *superblock) compat(bits uint32) bool    { return s.u32(sbCompat)&bits != 0 }
func (s *superblock) incompat(bits uint32) bool  { return s.u32(sbIncompat)&bits != 0 }
func (s *superblock) roCompat(bits uint32) bool  { return s.u32(sbROCompat)&bits != 0 }
func (s *superblock) hasChecksums() bool         { return s.roCompat(roMetadataCSum) }
func (s *superblock) blocks() uint64             { return s.wide(sbBlocksLo, sbBlocksHi) }
func (s *superblock) setBlocks(n uint64)         { s.putWide(sbBlocksLo, sbBlocksHi, n) }
func (s *superblock) freeBlocks() uint64         { return s.wide(sbFreeBlocksLo, sbFreeBlocksHi) }
func (s *superblock) setFreeBlocks(n uint64)     { s.putWide(sbFreeBlocksLo, sbFreeBlocksHi, n) }
func (s *superblock) reservedBlocks() uint64     { return s.wide(sbReservedLo, sbReservedHi) }
func (s *superblock) setReservedBlocks(n uint64) { s.putWide(sbReservedLo, sbReservedHi, n) }

func (s *superblock) wide(lo, hi int) uint64 {
	n := uint64(s.u32(lo))
	if s.incompat(incompat64Bit) {
		n |= uint64(s.u32(hi)) << 32
	}
	return n
}

func (s *superblock) putWide(lo, hi int, n uint64) {
	s.put32(lo, uint32(n))
	if s.incompat(incompat64Bit) {
		s.put32(hi, uint32(n>>32))
	}
}

// seal brings the checksum up to date.
func (s *superblock) seal() { s.put32(sbChecksum, checksum(^uint32(0), s[:sbChecksum])) }

func (s *superblock) sealed() bool {
	return s.u32(sbChecksum) == checksum(^uint32(0), s[:sbChecksum])
}

// checksumSeed begins every other checksum of the file system.
func (s *superblock) checksumSeed() uint32 {
	if s.incompat(incompatCSumSeed) {
		return s.u32(sbChecksumSeed)
	}
	return checksum(^uint32(0), s[sbUUID:sbUUID+16])
}

func (s *superblock) label() string {
	return string(bytes.TrimRight(s[sbLabel:sbLabel+labelSize], "\x00"))
}

// superPlace returns the block that holds the primary superblock and where in it.
func superPlace(blockSize uint32) (block uint64, offset uint32) {
	return uint64(superOffset / blockSize), superOffset % blockSize
}

// readSuper reads the primary superblock and checks everything that geometry computes
// with. Errors wrap ErrNotExt4 or ErrCorrupt, or are those of r.
func readSuper(r io.ReaderAt) (*superblock, error) {
	s := new(superblock)
	if n, err := r.ReadAt(s[:], superOffset); n < len(s) {
		if err == io.EOF {
			return nil, fmt.Errorf("%w: the image ends before the superblock", ErrNotExt4)
		}
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if s.u16(sbMagic) != magic {
		return nil, fmt.Errorf("%w: magic number %#04x", ErrNotExt4, s.u16(sbMagic))
	}
	if s.hasChecksums() && !s.sealed() {
		return nil, fmt.Errorf("%w: checksum of the superblock is wrong", ErrCorrupt)
	}
	return s, s.check()
}

func (s *superblock) check() error {
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if s.u32(sbLogBlock) > 6 {
		return corrupt("block size 1024<<%d", s.u32(sbLogBlock))
	}
	size := uint32(1024) << s.u32(sbLogBlock)
	first, most := uint32(0), uint64(8*size)
	if s.roCompat(roBigAlloc) {
		// A bit of a bitmap stands for a cluster of blocks.
		most <<= min(s.u32(sbLogCluster)-min(s.u32(sbLogCluster), s.u32(sbLogBlock)), 16)
	} else if size == 1024 {
		first = 1 // the superblock fills block 1
	}
	if s.u32(sbFirstBlock) != first {
		return corrupt("first block %d with blocks of %d bytes", s.u32(sbFirstBlock), size)
	}
	if per := s.u32(sbGroupBlocks); per == 0 || per%8 != 0 || uint64(per) > most {
		return corrupt("%d blocks in a group", per)
	}
	inode := uint32(128)
	if s.u32(sbRevision) > 0 {
		inode = uint32(s.u16(sbInodeSize))
	}
	if inode < 128 || inode > size || inode&(inode-1) != 0 {
		return corrupt("inodes of %d bytes", inode)
	}
	if per := s.u32(sbGroupInodes); per < size/inode || per > 8*size || per%8 != 0 {
		return corrupt("%d inodes in a group", per)
	}
	if s.incompat(incompat64Bit) {
		if desc := uint32(s.u16(sbDescSize)); desc < descSize || desc > size || desc&(desc-1) != 0 {
			return corrupt("group descriptors of %d bytes", desc)
		}
	}
	n := s.blocks()
	if n <= uint64(s.u32(sbFirstBlock)) || n > 1<<46 || n/uint64(s.u32(sbGroupBlocks)) >= 1<<31 {
		return corrupt("%d blocks in groups of %d", n, s.u32(sbGroupBlocks))
	}
	g := newGeometry(s)
	if uint64(g.groups())*uint64(g.groupInodes) != uint64(s.u32(sbInodes)) {
		return corrupt("%d inodes in %d groups of %d", s.u32(sbInodes), g.groups(), g.groupInodes)
	}
	return nil
}
