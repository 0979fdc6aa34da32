package ext4

// geometry says where the parts of a file system lie. Numbers of blocks and groups
// count from the start of the image.
type geometry struct {
	blockSize   uint32
	blocks      uint64
	first       uint32 // block that group 0 begins with: 1 if blocks have 1024 bytes
	groupBlocks uint32
	groupInodes uint32
	inodeSize   uint32
	descSize    uint32
	gdt         uint32 // blocks of the group descriptor table
	reserved    uint32 // blocks behind it for its growth
	seed        uint32 // of checksums
}

// newGeometry derives it from a superblock that check has passed.
func newGeometry(s *superblock) geometry {
	g := geometry{
		blockSize:   1024 << s.u32(sbLogBlock),
		blocks:      s.blocks(),
		first:       s.u32(sbFirstBlock),
		groupBlocks: s.u32(sbGroupBlocks),
		groupInodes: s.u32(sbGroupInodes),
		inodeSize:   128,
		descSize:    32,
		reserved:    uint32(s.u16(sbReservedGDT)),
		seed:        s.checksumSeed(),
	}
	if s.u32(sbRevision) > 0 {
		g.inodeSize = uint32(s.u16(sbInodeSize))
	}
	if s.incompat(incompat64Bit) {
		g.descSize = uint32(s.u16(sbDescSize))
	}
	g.gdt = g.gdtFor(uint64(g.groups()))
	return g
}

// freshGeometry is that of a file system Create makes in an image of so many blocks.
func freshGeometry(blocks uint64, seed uint32) geometry {
	g := geometry{
		blockSize: BlockSize, groupBlocks: groupBlocks, groupInodes: groupInodes,
		inodeSize: inodeSize, descSize: descSize, seed: seed,
	}
	g.gdt = g.gdtFor(divUp(blocks, groupBlocks))
	g.reserved = min(reservedGDT, maxGDTBlocks-g.gdt)
	g.blocks = g.fit(blocks)
	// Without the rest that fit cut off, the table may need a block less.
	g.gdt = g.gdtFor(uint64(g.groups()))
	return g
}

func (g *geometry) groups() uint32 {
	return uint32(divUp(g.blocks-uint64(g.first), uint64(g.groupBlocks)))
}

func (g *geometry) gdtFor(groups uint64) uint32 {
	return uint32(divUp(groups*uint64(g.descSize), uint64(g.blockSize)))
}

func (g *geometry) start(group uint32) uint64 {
	return uint64(g.first) + uint64(group)*uint64(g.groupBlocks)
}

// length is the number of blocks in group; only the last may be shorter.
func (g *geometry) length(group uint32) uint32 {
	return uint32(min(uint64(g.groupBlocks), g.blocks-g.start(group)))
}

// tableBlocks is the length of one group's inode table.
func (g *geometry) tableBlocks() uint32 {
	return uint32(divUp(uint64(g.groupInodes)*uint64(g.inodeSize), uint64(g.blockSize)))
}

// hasBackup reports whether group begins with superblock and descriptors: the first
// two and the powers of 3, 5 and 7 do.
func (g *geometry) hasBackup(group uint32) bool {
	if group <= 1 {
		return true
	}
	for _, base := range [...]uint64{3, 5, 7} {
		power := base
		for power < uint64(group) {
			power *= base
		}
		if power == uint64(group) {
			return true
		}
	}
	return false
}

// head is how many blocks superblock, descriptors and their reserve take in group.
func (g *geometry) head(group uint32) uint32 {
	if !g.hasBackup(group) {
		return 0
	}
	return 1 + g.gdt + g.reserved
}

// overhead is how many blocks the metadata of a group takes that holds its own.
func (g *geometry) overhead(group uint32) uint32 { return g.head(group) + 2 + g.tableBlocks() }

// fit returns how many of so many blocks are used: a last group that would hold little
// but its own metadata is left out.
func (g *geometry) fit(blocks uint64) uint64 {
	if blocks <= uint64(g.first) {
		return 0
	}
	used := blocks - uint64(g.first)
	last, rest := uint32(used/uint64(g.groupBlocks)), uint32(used%uint64(g.groupBlocks))
	if rest > 0 && rest < g.overhead(last)+spareBlocks {
		blocks -= uint64(rest)
	}
	return blocks
}

// inodeAt returns group and byte offset in that group's inode table.
func (g *geometry) inodeAt(number uint32) (group uint32, offset uint64) {
	return (number - 1) / g.groupInodes, uint64((number-1)%g.groupInodes) * uint64(g.inodeSize)
}

func (g *geometry) offset(block uint64) int64 { return int64(block * uint64(g.blockSize)) }
