package ext4

import (
	"bytes"
	"errors"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/require"
)

// FuzzInspect reads superblocks with whatever checksum they need.
func FuzzInspect(f *testing.F) {
	var s superblock
	_, err := formatted(f, Options{Size: MinSize}).ReadAt(s[:], superOffset)
	require.NoError(f, err)
	f.Add(s[:], true)
	f.Add(s[:], false)
	f.Fuzz(func(t *testing.T, p []byte, seal bool) {
		copy(s[:], append(p, make([]byte, superSize)...))
		if seal {
			s.seal()
		}
		image := append(make([]byte, superOffset), s[:]...)
		info, err := Inspect(bytes.NewReader(image))
		if err != nil {
			require.True(t, errors.Is(err, ErrNotExt4) || errors.Is(err, ErrCorrupt))
			return
		}
		require.True(t, info.Size > 0 && info.Free >= 0 && info.Free <= info.Size)
	})
}

// FuzzGrow changes words all over an image with transactions in its journal, mends the
// checksums and grows it: whatever a guest wrote, nothing outside the image is touched,
// and all ends.
func FuzzGrow(f *testing.F) {
	base := crash(f, 4000)
	for i := range 40 {
		base.transaction(f, uint64(logged+i%7), byte(i), uint64(logged+i%3))
	}
	idle := formatted(f, Options{Size: 8 * MinSize})
	f.Add([]byte{}, true)
	f.Add([]byte{}, false)
	for kind := range byte(8) {
		for at := range byte(24) {
			f.Add([]byte{kind, at, 0, 1, 2, 3, 4}, at%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, dirty bool) {
		const size = 1 << 30
		m := idle.clone(-1)
		if dirty {
			m = base.memory.clone(-1)
		}
		m.limit = size
		for ; len(p) >= 7; p = p[7:] {
			m.mutate(p[0], uint32(le.Uint16(p[1:])), le.Uint32(p[3:]))
		}
		m.seal()
		m.wrote = 0
		err := grow(m, size)
		require.False(t, m.wild, "wrote outside")
		if err != nil {
			for _, known := range []error{ErrNotExt4, ErrCorrupt, ErrUnsupported, ErrDirty} {
				if errors.Is(err, known) {
					return
				}
			}
			var capacity *CapacityError
			require.ErrorAs(t, err, &capacity)
			return
		}
		_, err = Inspect(m)
		require.NoError(t, err)
	})
}

// mutate sets a word of the metadata of a fuzzed image.
func (m *memory) mutate(kind byte, at, value uint32) {
	g := freshGeometry(8*MinSize/BlockSize, 0)
	table := g.offset(uint64(g.head(0)) + 2)
	off := int64(at) * 4 % BlockSize
	switch kind % 8 {
	case 0: // superblock
		off = superOffset + off%superSize
	case 1: // descriptors
		off = BlockSize + off%descSize
	case 2: // resize inode
		off = table + (inodeResize-1)*inodeSize + off%inodeSize
	case 3: // journal inode
		off = table + (inodeJournal-1)*inodeSize + off%inodeSize
	case 4: // double indirect block
		off += g.offset(uint64(g.overhead(0)))
	case 5: // journal's superblock
		off = g.offset(uint64(g.overhead(0))+1) + off%journalSuperSize
	case 6: // log
		off = g.offset(uint64(g.overhead(0))+1+uint64(4000+at%96)) + off%64
	case 7: // reserved blocks
		off += g.offset(2 + uint64(at%reservedGDT))
	}
	var p [4]byte
	le.PutUint32(p[:], value)
	_, _ = m.WriteAt(p[:], off)
}

// seal mends the checksums of a fuzzed image.
func (m *memory) seal() {
	g := freshGeometry(8*MinSize/BlockSize, 0)
	var s superblock
	_, _ = m.ReadAt(s[:], superOffset)
	s.seal()
	_, _ = m.WriteAt(s[:], superOffset)
	seed := s.checksumSeed()
	d := make(descriptor, descSize)
	_, _ = m.ReadAt(d, BlockSize)
	d.seal(seed, 0)
	_, _ = m.WriteAt(d, BlockSize)
	table := g.offset(uint64(g.head(0)) + 2)
	for _, number := range []uint32{inodeResize, inodeJournal} {
		p := make([]byte, inodeSize)
		off := table + int64(number-1)*inodeSize
		_, _ = m.ReadAt(p, off)
		sealInode(p, seed, number)
		_, _ = m.WriteAt(p, off)
	}
	p := make([]byte, BlockSize)
	off := g.offset(uint64(g.overhead(0)) + 1)
	_, _ = m.ReadAt(p, off)
	sealJournalSuper(p)
	_, _ = m.WriteAt(p, off)
}

// FuzzFormat stores a tree made of the input: whatever it holds, the image is one that
// this package can inspect and grow, or the tree is refused.
func FuzzFormat(f *testing.F) {
	f.Add([]byte("name/other\x00sym"), uint32(0o100644), int64(1), uint16(3))
	f.Add([]byte("a/b/c/d"), uint32(0o120777), int64(-1<<40), uint16(70))
	f.Add(bytes.Repeat([]byte("xy/"), 100), uint32(0o020666), int64(1<<40), uint16(5000))
	f.Fuzz(func(t *testing.T, names []byte, mode uint32, sec int64, count uint16) {
		tr := tree.New()
		for i, name := range bytes.Split(names, []byte{0}) {
			n := &tree.Inode{Mode: mode, UID: uint32(sec), GID: uint32(i), MTime: tree.Time{Sec: sec}, Target: string(names)}
			n.Size, n.Content = int64(len(names)), bytes.NewReader(names)
			n.SetXattr("user."+string(name), names)
			n.SetXattr("system.posix_acl_access", names)
			if n.IsDir() {
				n = tree.NewDir(mode)
			}
			_ = tr.Add(string(name), n)
			tr.Root.SetWhiteout(string(name))
		}
		wide := tree.NewDir(0)
		for i := range int(count) % 2000 {
			wide.Set(string(names[:min(len(names), 200)])+string(rune('a'+i)), &tree.Inode{Mode: tree.TypeFIFO})
		}
		tr.Root.Set("wide", wide)
		m := newMemory(8 * MinSize)
		err := format(m, Options{Size: 8 * MinSize, Tree: tr, UUID: testUUID})
		require.False(t, m.wild)
		if err != nil {
			require.True(t, errors.Is(err, ErrTree) || errors.Is(err, ErrSpace), err)
			return
		}
		m.limit = 1 << 30
		require.NoError(t, m.Truncate(8*MinSize))
		require.NoError(t, grow(m, 1<<30))
	})
}
