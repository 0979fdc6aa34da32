package ext4

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGrowIsIdempotent(t *testing.T) {
	t.Parallel()
	m := formatted(t, Options{Size: 300 << 20})
	m.limit = 1 << 40
	require.NoError(t, grow(m, 300<<20))
	require.NoError(t, grow(m, 100<<20), "never smaller")
	require.NoError(t, grow(m, 300<<20+BlockSize*spareBlocks/2+BlockSize))
	wrote := m.wrote
	require.NoError(t, grow(m, 300<<20+BlockSize*spareBlocks/2+BlockSize))
	assert.Equal(t, wrote, m.wrote, "the second time nothing happens")
	info, err := Inspect(m)
	require.NoError(t, err)
	assert.EqualValues(t, 300<<20+BlockSize*spareBlocks/2+BlockSize, info.Size)
	assert.True(t, info.Clean())
}

func TestGrowRefusesSizes(t *testing.T) {
	t.Parallel()
	path := create(t, Options{Size: MinSize})
	for _, size := range []int64{0, -BlockSize, 9<<20 + 1} {
		assert.ErrorIs(t, Grow(path, size), ErrOptions)
	}
	assert.ErrorIs(t, Grow(filepath.Join(t.TempDir(), "none"), 1<<30), os.ErrNotExist)
	assert.Error(t, Grow(t.TempDir(), 1<<30))
}

func TestGrowReportsCapacity(t *testing.T) {
	t.Parallel()
	m := formatted(t, Options{Size: 4 << 30})
	m.limit = MaxSize
	err := grow(m, 4<<40)
	var capacity *CapacityError
	require.ErrorAs(t, err, &capacity)
	assert.EqualValues(t, 4<<40, capacity.Want)
	assert.EqualValues(t, 257*64*128<<20, capacity.Max) // 257 blocks of 64 descriptors
	assert.Zero(t, m.wrote)
	require.NoError(t, grow(m, capacity.Max))
	assert.ErrorAs(t, grow(m, capacity.Max+128<<20), &capacity)
}

// patched is a 300 MiB image with its superblock changed and sealed.
func patched(t *testing.T, change func(s *superblock)) *memory {
	t.Helper()
	m := formatted(t, Options{Size: 300 << 20})
	var s superblock
	_, err := m.ReadAt(s[:], superOffset)
	require.NoError(t, err)
	change(&s)
	s.seal()
	_, err = m.WriteAt(s[:], superOffset)
	require.NoError(t, err)
	m.wrote, m.limit = 0, 1<<40
	return m
}

func TestGrowRefusesSuperblocks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(s *superblock)
		want   error
	}{
		"magic":           {func(s *superblock) { s.put16(sbMagic, 0) }, ErrNotExt4},
		"errors":          {func(s *superblock) { s.put16(sbState, stateValid|stateError) }, ErrDirty},
		"not unmounted":   {func(s *superblock) { s.put16(sbState, 0) }, ErrDirty},
		"unknown feature": {func(s *superblock) { s.put32(sbIncompat, s.u32(sbIncompat)|0x40000000) }, ErrUnsupported},
		"meta_bg":         {func(s *superblock) { s.put32(sbIncompat, s.u32(sbIncompat)|0x10) }, ErrUnsupported},
		"bigalloc":        {func(s *superblock) { s.put32(sbROCompat, s.u32(sbROCompat)|0x200) }, ErrUnsupported},
		"sparse_super2":   {func(s *superblock) { s.put32(sbCompat, s.u32(sbCompat)|compatSparse2) }, ErrUnsupported},
		"no journal":      {func(s *superblock) { s.put32(sbCompat, s.u32(sbCompat)&^compatJournal) }, ErrUnsupported},
		"journal inode":   {func(s *superblock) { s.put32(sbJournalInode, 11) }, ErrUnsupported},
		"no resize inode": {func(s *superblock) { s.put32(sbCompat, s.u32(sbCompat)&^compatResizeInode) }, ErrUnsupported},
		"block size":      {func(s *superblock) { s.put32(sbLogBlock, 7) }, ErrCorrupt},
		"group blocks":    {func(s *superblock) { s.put32(sbGroupBlocks, 0) }, ErrCorrupt},
		"tiny groups":     {func(s *superblock) { s.put32(sbGroupBlocks, 8) }, ErrCorrupt},
		"group inodes":    {func(s *superblock) { s.put32(sbGroupInodes, 0) }, ErrCorrupt},
		"inode size":      {func(s *superblock) { s.put16(sbInodeSize, 100) }, ErrCorrupt},
		"descriptors":     {func(s *superblock) { s.put16(sbDescSize, 48) }, ErrCorrupt},
		"first block":     {func(s *superblock) { s.put32(sbFirstBlock, 1) }, ErrCorrupt},
		"no blocks":       {func(s *superblock) { s.setBlocks(0) }, ErrCorrupt},
		"more blocks":     {func(s *superblock) { s.setBlocks(1 << 40) }, ErrCorrupt},
		"inodes":          {func(s *superblock) { s.put32(sbInodes, 5) }, ErrCorrupt},
		"uuid":            {func(s *superblock) { s[sbUUID]++ }, ErrCorrupt},
		"reserved":        {func(s *superblock) { s.setReservedBlocks(s.blocks()) }, ErrCorrupt},
		"reserved GDT":    {func(s *superblock) { s.put16(sbReservedGDT, 255) }, ErrCorrupt},
		"all reserved":    {func(s *superblock) { s.put16(sbReservedGDT, 0xFFFF) }, ErrCorrupt},
	} {
		m := patched(t, tc.change)
		assert.ErrorIs(t, grow(m, 1<<30), tc.want, name)
		assert.Zero(t, m.wrote, name)
	}
	unsealed := patched(t, func(*superblock) {})
	_, err := unsealed.WriteAt([]byte{7}, superOffset+sbFreeInodes)
	require.NoError(t, err)
	assert.ErrorIs(t, grow(unsealed, 1<<30), ErrCorrupt)
}

func TestGrowRefusesMetadata(t *testing.T) {
	t.Parallel()
	base := formatted(t, Options{Size: 300 << 20})
	v, err := openVolume(base)
	require.NoError(t, err)
	j, err := openJournal(v)
	require.NoError(t, err)
	start, err := j.locate(0)
	require.NoError(t, err)
	_, at, offset, err := v.inode(inodeResize)
	require.NoError(t, err)
	for name, off := range map[string]int64{
		"descriptor":        BlockSize + 2*descSize + gdFreeBlocks,
		"first descriptor":  BlockSize + gdFreeBlocks,
		"bitmap":            v.geo.offset(v.geo.start(2)) + 5,
		"reserved block":    v.geo.offset(2),
		"resize inode":      v.geo.offset(at) + int64(offset) + inBlocksLo,
		"journal inode":     v.geo.offset(at) + int64(offset) + inodeSize + inSizeLo,
		"journal magic":     v.geo.offset(start),
		"journal length":    v.geo.offset(start) + jsLength,
		"double indirect":   v.geo.offset(uint64(v.geo.overhead(0))) + 4,
		"journal user data": v.geo.offset(start) + 0x200,
	} {
		m := base.clone(-1)
		m.limit = 1 << 40
		var p [1]byte
		_, err := m.ReadAt(p[:], off)
		require.NoError(t, err)
		p[0] ^= 0x55
		_, err = m.WriteAt(p[:], off)
		require.NoError(t, err)
		m.wrote = 0
		assert.ErrorIs(t, grow(m, 1<<30), ErrCorrupt, name)
		assert.Zero(t, m.wrote, name)
	}
	short := base.clone(-1)
	require.NoError(t, short.Truncate(200<<20))
	assert.ErrorIs(t, grow(short, 1<<30), ErrCorrupt)
}

func TestGrowReportsErrorsOfTheFile(t *testing.T) {
	t.Parallel()
	base := formatted(t, Options{Size: 300 << 20})
	base.limit = 1 << 40
	whole := base.clone(-1)
	require.NoError(t, grow(whole, 1<<30))
	for left := 0; left < whole.wrote; left += 7 {
		assert.ErrorIs(t, grow(base.clone(left), 1<<30), errKilled)
	}
	assert.False(t, errors.Is(grow(base.clone(whole.wrote), 1<<30), errKilled))
}
