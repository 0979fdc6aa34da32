package ext4

import "github.com/gomsb/gomsb/rootfs/tree"

// Flags of an inode.
const (
	inodeIndexed = 0x1000  // directory with a hashed index
	inodeExtents = 0x80000 // i_block holds an extent tree
)

// Offsets in an inode record.
const (
	inMode       = 0x00
	inUID        = 0x02
	inSizeLo     = 0x04
	inATime      = 0x08
	inCTime      = 0x0C
	inMTime      = 0x10
	inGID        = 0x18
	inLinks      = 0x1A
	inBlocksLo   = 0x1C
	inFlags      = 0x20
	inBlock      = 0x28
	inGeneration = 0x64
	inXattrLo    = 0x68
	inSizeHi     = 0x6C
	inBlocksHi   = 0x74
	inXattrHi    = 0x76
	inUIDHi      = 0x78
	inGIDHi      = 0x7A
	inSumLo      = 0x7C
	inExtra      = 0x80
	inSumHi      = 0x82
	inCTimeExtra = 0x84
	inMTimeExtra = 0x88
	inATimeExtra = 0x8C
	inCrTime     = 0x90
	inCrExtra    = 0x94

	inodeBase    = 128 // bytes of a record without i_extra_isize
	iblockSize   = 60  // bytes of i_block
	sectorsBlock = BlockSize / 512

	// maxLinks is how many names a file may have. A directory with more subdirectories
	// says 1 instead.
	maxLinks = 65000
)

// inode is one as Create writes it.
type inode struct {
	mode     uint32
	uid, gid uint32
	size     uint64
	links    uint32
	blocks   uint64 // of BlockSize
	flags    uint32
	block    [iblockSize]byte
	xattrs   uint64 // block of xattrs, 0 if none
	mtime    tree.Time
	crtime   tree.Time
	inline   []byte // xattrs behind the record
}

// record encodes the inode called number.
func (n *inode) record(seed, number uint32) []byte {
	p := make([]byte, inodeSize)
	sectors := n.blocks * sectorsBlock
	le.PutUint16(p[inMode:], uint16(n.mode))
	le.PutUint16(p[inUID:], uint16(n.uid))
	le.PutUint16(p[inUIDHi:], uint16(n.uid>>16))
	le.PutUint16(p[inGID:], uint16(n.gid))
	le.PutUint16(p[inGIDHi:], uint16(n.gid>>16))
	le.PutUint32(p[inSizeLo:], uint32(n.size))
	le.PutUint32(p[inSizeHi:], uint32(n.size>>32))
	le.PutUint16(p[inLinks:], uint16(n.links))
	le.PutUint32(p[inBlocksLo:], uint32(sectors))
	le.PutUint16(p[inBlocksHi:], uint16(sectors>>32))
	le.PutUint32(p[inFlags:], n.flags)
	copy(p[inBlock:], n.block[:])
	le.PutUint32(p[inXattrLo:], uint32(n.xattrs))
	le.PutUint16(p[inXattrHi:], uint16(n.xattrs>>32))
	le.PutUint16(p[inExtra:], extraSize)
	for _, at := range [...]struct {
		sec, extra int
		t          tree.Time
	}{
		{inATime, inATimeExtra, n.mtime}, {inCTime, inCTimeExtra, n.mtime},
		{inMTime, inMTimeExtra, n.mtime}, {inCrTime, inCrExtra, n.crtime},
	} {
		sec, extra := encodeTime(at.t)
		le.PutUint32(p[at.sec:], sec)
		le.PutUint32(p[at.extra:], extra)
	}
	copy(p[inodeBase+extraSize:], n.inline)
	sealInode(p, seed, number)
	return p
}

// sealInode brings the checksum of an inode record up to date. Records of 128 bytes
// have its lower half only.
func sealInode(p []byte, seed, number uint32) {
	sum := inodeSum(p, seed, number)
	le.PutUint16(p[inSumLo:], uint16(sum))
	if hasSumHi(p) {
		le.PutUint16(p[inSumHi:], uint16(sum>>16))
	}
}

func inodeSealed(p []byte, seed, number uint32) bool {
	sum := inodeSum(p, seed, number)
	return le.Uint16(p[inSumLo:]) == uint16(sum) && (!hasSumHi(p) || le.Uint16(p[inSumHi:]) == uint16(sum>>16))
}

func hasSumHi(p []byte) bool {
	return len(p) > inodeBase && int(le.Uint16(p[inExtra:])) >= inSumHi+2-inodeBase
}

func inodeSum(p []byte, seed, number uint32) uint32 {
	zero := []byte{0, 0}
	sum := inodeSeed(seed, number, le.Uint32(p[inGeneration:]))
	sum = checksum(sum, p[:inSumLo])
	sum = checksum(sum, zero)
	if !hasSumHi(p) {
		return checksum(sum, p[inSumLo+2:])
	}
	sum = checksum(sum, p[inSumLo+2:inSumHi])
	sum = checksum(sum, zero)
	return checksum(sum, p[inSumHi+2:])
}

// Times have 34 bits of seconds, from 1901 to 2446.
const (
	minSeconds = -1 << 31
	maxSeconds = 1<<34 - 1<<31 - 1
)

// encodeTime returns both words of a time. One out of range becomes the nearest that
// there is, as in Linux.
func encodeTime(t tree.Time) (sec, extra uint32) {
	s := min(max(t.Sec, minSeconds), maxSeconds)
	if s != t.Sec {
		t.Nsec = 0
	}
	epoch := uint32((s-int64(int32(s)))>>32) & 3
	return uint32(s), t.Nsec<<2 | epoch
}

// encodeDevice fills i_block with a device number: in the old form if that suffices.
func encodeDevice(p []byte, major, minor uint32) {
	if major < 256 && minor < 256 {
		le.PutUint32(p, major<<8|minor)
		return
	}
	le.PutUint32(p[4:], minor&0xff|major<<8|minor&^0xff<<12)
}
