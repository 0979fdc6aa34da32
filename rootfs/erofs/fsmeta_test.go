package erofs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stitched is a disk of a fsmeta image and layers.
type stitched struct {
	raw    []byte
	layers []string // image files
	meta   int64    // bytes of the fsmeta image
}

// stitch merges layers and makes their disk.
func stitch(t testing.TB, layers ...*tree.Tree) (*tree.Tree, stitched) {
	t.Helper()
	merged, s := tree.New(), stitched{}
	var devices []Device
	for _, l := range layers {
		f := temp(t)
		w, info := store(t, f, l)
		devices = append(devices, Device{Content: w, Blocks: uint32(info.Blocks)})
		s.layers = append(s.layers, f.Name())
		require.NoError(t, merged.Merge(l))
	}
	var b bytes.Buffer
	info, err := BuildMeta(&b, merged, devices, [16]byte{1, 2, 3})
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), info.Size())
	s.meta = info.Size()
	for _, path := range s.layers {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		b.Write(raw)
	}
	s.raw = b.Bytes()
	return merged, s
}

func TestMetaShowsTheMergedTree(t *testing.T) {
	t.Parallel()
	base := tree.New()
	require.NoError(t, base.AddFile("usr/bin/perl", 0o755, []byte(strings.Repeat("perl", 5000))))
	require.NoError(t, base.AddFile("gone", 0o644, []byte("lower")))
	require.NoError(t, base.AddFile("opaque/lower", 0o644, []byte("lower")))
	want, disk := stitch(t, base, changes(t))
	assert.Nil(t, want.Lookup("gone"))
	assert.Nil(t, want.Lookup("opaque/lower"))
	compareTrees(t, want, reread(t, disk.raw))
	r, err := NewReader(bytes.NewReader(disk.raw), int64(len(disk.raw)))
	require.NoError(t, err)
	assert.True(t, r.OwnMeta())
	assert.Equal(t, [16]byte{1, 2, 3}, r.ID())
	assert.Len(t, r.Devices(), 2)
	_, err = r.ReadLayer(100_000)
	assert.ErrorIs(t, err, ErrUnsupported)
	got, err := r.Tree(100_000)
	require.NoError(t, err)
	assert.Same(t, got.Lookup("usr/bin/perl"), got.Lookup("link/hard2"))

	// The image alone shows everything but content.
	r, err = NewReader(bytes.NewReader(disk.raw[:disk.meta]), disk.meta)
	require.NoError(t, err)
	got, err = r.Tree(100_000)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, got.Lookup("usr/bin/perl").Reader())
	assert.ErrorIs(t, err, ErrCorrupt)
}

// TestMetaOfManyLayers lets the device table outgrow the superblock's block.
func TestMetaOfManyLayers(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 23, 24, 60} {
		var layers []*tree.Tree
		for i := range count {
			l := tree.New()
			require.NoError(t, l.AddFile(fmt.Sprint("file", i), 0o644, []byte(strings.Repeat(fmt.Sprint(i), 2000))))
			require.NoError(t, l.AddFile("same", 0o644, []byte(fmt.Sprint("layer ", i))))
			layers = append(layers, l)
		}
		want, disk := stitch(t, layers...)
		compareTrees(t, want, reread(t, disk.raw))
		assert.Equal(t, count+1, want.Root.Len())
	}
}

// TestMetaAlignsChunkIndexes tries all sizes of xattrs: the kernel looks for the indexes
// at the next multiple of eight.
func TestMetaAlignsChunkIndexes(t *testing.T) {
	t.Parallel()
	l := tree.New()
	for n := range 24 {
		file := &tree.Inode{Mode: tree.TypeRegular | 0o644, Size: 5000, Content: strings.NewReader(strings.Repeat(string(rune('a'+n)), 5000))}
		file.SetXattr("user.k", make([]byte, n))
		require.NoError(t, l.Add(fmt.Sprintf("f%02d", n), file))
	}
	want, disk := stitch(t, l)
	compareTrees(t, want, reread(t, disk.raw))
}

// hollow pretends to hold a large image of zeros with a mark at some place.
type hollow struct{ at int64 }

func (h hollow) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if i := h.at - off; i >= 0 && i < int64(len(p)) {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestMetaOfLargeFiles: a chunk covers up to 4 GiB, so an index or two suffice.
func TestMetaOfLargeFiles(t *testing.T) {
	t.Parallel()
	const size = 9<<30 + 5
	content, tr := hollow{}, tree.New()
	require.NoError(t, tr.Add("big", &tree.Inode{Mode: tree.TypeRegular, Size: size, Content: content, Offset: 7 * BlockSize}))
	require.NoError(t, tr.Add("small", &tree.Inode{Mode: tree.TypeRegular, Size: 3 * BlockSize, Content: content, Offset: BlockSize}))
	var b bytes.Buffer
	info, err := BuildMeta(&b, tr, []Device{{Content: content, Blocks: size>>blockBits + 100}}, [16]byte{})
	require.NoError(t, err)
	assert.EqualValues(t, 2, info.Blocks, "indexes of single blocks would take 18 MiB")
	for _, at := range []int64{0, 4<<30 - 1, 4 << 30, 8<<30 + 77, size - 1} {
		disk := &overlaid{b.Bytes(), hollow{info.Size() + 7*BlockSize + at}}
		r, err := NewReader(disk, info.Size()+size+100*BlockSize)
		require.NoError(t, err)
		got, err := r.Tree(10)
		require.NoError(t, err)
		p := make([]byte, 3)
		n, _ := got.Lookup("big").Content.ReadAt(p, max(at-1, 0))
		require.Positive(t, n)
		assert.Contains(t, string(p), "x", at)
	}
}

// overlaid shows head and then a hollow.
type overlaid struct {
	head []byte
	hollow
}

func (o *overlaid) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.hollow.ReadAt(p, off)
	if off < int64(len(o.head)) {
		copy(p, o.head[off:])
	}
	return n, err
}

func TestMetaRefuses(t *testing.T) {
	t.Parallel()
	content := hollow{}
	one := func(n *tree.Inode) *tree.Tree {
		tr := tree.New()
		require.NoError(t, tr.Add("f", n))
		return tr
	}
	good := []Device{{Content: content, Blocks: 10}}
	for name, c := range map[string]struct {
		tr      *tree.Tree
		devices []Device
	}{
		"no devices":      {tree.New(), nil},
		"too many":        {tree.New(), make([]Device, maxDevices+1)},
		"content":         {one(&tree.Inode{Mode: tree.TypeRegular, Size: 1, Content: strings.NewReader("x")}), good},
		"negative offset": {one(&tree.Inode{Mode: tree.TypeRegular, Size: 1, Content: content, Offset: -BlockSize}), good},
		"amid a block":    {one(&tree.Inode{Mode: tree.TypeRegular, Size: 1, Content: content, Offset: 1}), good},
		"hard link":       {one(tree.New().NewLink("x")), good},
		"2^32 blocks":     {tree.New(), []Device{{Content: content, Blocks: 1 << 31}, {Content: hollow{1}, Blocks: 1 << 31}}},
	} {
		_, err := BuildMeta(io.Discard, c.tr, c.devices, [16]byte{})
		assert.ErrorIs(t, err, ErrTree, name)
	}
}

// TestMetaSurvivesEveryFlip flips each bit of superblock, device table and metadata.
func TestMetaSurvivesEveryFlip(t *testing.T) {
	t.Parallel()
	l := tree.New()
	require.NoError(t, l.AddFile("file", 0o644, []byte(strings.Repeat("content", 1700))))
	_, disk := stitch(t, l)
	refused := 0
	for bit := superOffset * 8; bit < int(disk.meta)*8; bit++ {
		p := bytes.Clone(disk.raw)
		p[bit/8] ^= 1 << (bit % 8)
		resum(p)
		if consume(p) != nil {
			refused++
		}
	}
	assert.Positive(t, refused)
}

func FuzzMeta(f *testing.F) {
	l := tree.New()
	require.NoError(f, l.AddFile("file", 0o644, []byte(strings.Repeat("content", 1700))))
	_, disk := stitch(f, l)
	f.Add(disk.raw)
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < BlockSize || len(p) > 1<<20 {
			return
		}
		resum(p)
		_ = consume(p)
		if r, err := NewReader(bytes.NewReader(p), int64(len(p))); err == nil {
			_, _ = r.ReadLayer(1000)
		}
	})
}
