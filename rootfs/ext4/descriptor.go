package ext4

// Flags of a group descriptor.
const (
	groupInodeUninit = 0x1 // no inode is used; the inode bitmap is not written
	groupBlockUninit = 0x2 // no block but metadata is used; the block bitmap is not written
	groupZeroed      = 0x4 // the inode table is zero where it is unused
)

// Offsets in a group descriptor; the high halves are in 64-byte ones only.
const (
	gdBlockBitmap    = 0x00
	gdInodeBitmap    = 0x04
	gdInodeTable     = 0x08
	gdFreeBlocks     = 0x0C
	gdFreeInodes     = 0x0E
	gdDirs           = 0x10
	gdFlags          = 0x12
	gdBlockSum       = 0x18
	gdInodeSum       = 0x1A
	gdUnusedInodes   = 0x1C
	gdChecksum       = 0x1E
	gdBlockBitmapHi  = 0x20
	gdInodeBitmapHi  = 0x24
	gdInodeTableHi   = 0x28
	gdFreeBlocksHi   = 0x2C
	gdFreeInodesHi   = 0x2E
	gdDirsHi         = 0x30
	gdUnusedInodesHi = 0x32
	gdBlockSumHi     = 0x38
	gdInodeSumHi     = 0x3A
)

// descriptor is an encoded group descriptor of 32 bytes, or of 64 and more.
type descriptor []byte

func (d descriptor) wide() bool { return len(d) >= descSize }

func (d descriptor) block(lo, hi int) uint64 {
	n := uint64(le.Uint32(d[lo:]))
	if d.wide() {
		n |= uint64(le.Uint32(d[hi:])) << 32
	}
	return n
}

func (d descriptor) setBlock(lo, hi int, n uint64) {
	le.PutUint32(d[lo:], uint32(n))
	if d.wide() {
		le.PutUint32(d[hi:], uint32(n>>32))
	}
}

func (d descriptor) count(lo, hi int) uint32 {
	n := uint32(le.Uint16(d[lo:]))
	if d.wide() {
		n |= uint32(le.Uint16(d[hi:])) << 16
	}
	return n
}

func (d descriptor) setCount(lo, hi int, n uint32) {
	le.PutUint16(d[lo:], uint16(n))
	if d.wide() {
		le.PutUint16(d[hi:], uint16(n>>16))
	}
}

func (d descriptor) blockBitmap() uint64 { return d.block(gdBlockBitmap, gdBlockBitmapHi) }
func (d descriptor) inodeTable() uint64  { return d.block(gdInodeTable, gdInodeTableHi) }
func (d descriptor) freeBlocks() uint32  { return d.count(gdFreeBlocks, gdFreeBlocksHi) }
func (d descriptor) freeInodes() uint32  { return d.count(gdFreeInodes, gdFreeInodesHi) }
func (d descriptor) flags() uint16       { return le.Uint16(d[gdFlags:]) }

// sameSum compares as much of a bitmap's checksum as the descriptor holds.
func (d descriptor) sameSum(lo, hi int, sum uint32) bool {
	return d.count(lo, hi) == sum || !d.wide() && d.count(lo, hi) == sum&0xFFFF
}

func (d descriptor) sum(seed, group uint32) uint16 {
	sum := checksum(checksum32(seed, group), d[:gdChecksum])
	sum = checksum(sum, []byte{0, 0})
	return uint16(checksum(sum, d[gdChecksum+2:]))
}

// seal brings the checksum up to date.
func (d descriptor) seal(seed, group uint32) {
	le.PutUint16(d[gdChecksum:], d.sum(seed, group))
}

func (d descriptor) sealed(seed, group uint32) bool {
	return le.Uint16(d[gdChecksum:]) == d.sum(seed, group)
}

// usage counts what of a group is taken, from its start on.
type usage struct {
	blocks, inodes, dirs uint32
}

// group is a group whose metadata lies within it, in the order head, block bitmap,
// inode bitmap, inode table, and whose blocks and inodes are used from the start on.
type group struct {
	geo    *geometry
	number uint32
	used   usage
}

// bitmapBlock is where the block bitmap lies; inode bitmap and table follow.
func (g *group) bitmapBlock() uint64 { return g.geo.start(g.number) + uint64(g.geo.head(g.number)) }

// describe encodes the descriptor into d, which is zero, and returns both bitmaps if
// they have to be written. They do if full is set or anything of the group is in use.
func (g *group) describe(d descriptor, full bool) (bitmaps []byte) {
	at := g.bitmapBlock()
	d.setBlock(gdBlockBitmap, gdBlockBitmapHi, at)
	d.setBlock(gdInodeBitmap, gdInodeBitmapHi, at+1)
	d.setBlock(gdInodeTable, gdInodeTableHi, at+2)
	d.setCount(gdFreeBlocks, gdFreeBlocksHi, g.geo.length(g.number)-g.used.blocks)
	d.setCount(gdFreeInodes, gdFreeInodesHi, g.geo.groupInodes-g.used.inodes)
	d.setCount(gdUnusedInodes, gdUnusedInodesHi, g.geo.groupInodes-g.used.inodes)
	d.setCount(gdDirs, gdDirsHi, g.used.dirs)
	flags := uint16(groupZeroed)
	if full || g.used.inodes > 0 || g.used.blocks > g.geo.overhead(g.number) {
		bitmaps = g.bitmaps()
		d.setCount(gdBlockSum, gdBlockSumHi, g.geo.blockBitmapSum(bitmaps))
		d.setCount(gdInodeSum, gdInodeSumHi, g.geo.inodeBitmapSum(bitmaps[g.geo.blockSize:]))
	} else {
		flags |= groupInodeUninit | groupBlockUninit
	}
	le.PutUint16(d[gdFlags:], flags)
	d.seal(g.geo.seed, g.number)
	return bitmaps
}

// bitmaps returns the block bitmap and the inode bitmap, a block each. Bits beyond the
// group are set.
func (g *group) bitmaps() []byte {
	size := g.geo.blockSize
	both := make([]byte, 2*size)
	setBits(both[:size], 0, g.used.blocks)
	setBits(both[:size], g.geo.length(g.number), 8*size)
	setBits(both[size:], 0, g.used.inodes)
	setBits(both[size:], g.geo.groupInodes, 8*size)
	return both
}

func (g *geometry) blockBitmapSum(bitmap []byte) uint32 {
	return checksum(g.seed, bitmap[:g.groupBlocks/8])
}

func (g *geometry) inodeBitmapSum(bitmap []byte) uint32 {
	return checksum(g.seed, bitmap[:g.groupInodes/8])
}

// setBits sets bits from to to-1 of a bitmap.
func setBits(p []byte, from, to uint32) {
	for ; from < to && from%8 != 0; from++ {
		p[from/8] |= 1 << (from % 8)
	}
	for ; from+8 <= to; from += 8 {
		p[from/8] = 0xFF
	}
	for ; from < to; from++ {
		p[from/8] |= 1 << (from % 8)
	}
}
