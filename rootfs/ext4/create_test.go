package ext4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	path := create(t, Options{Tree: Upper(nil), Label: "scratch", Time: time.Unix(1_700_000_000, 5)})
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := Inspect(f)
	require.NoError(t, err)
	assert.EqualValues(t, DefaultSize, info.Size)
	assert.Equal(t, testUUID, info.UUID)
	assert.Equal(t, "scratch", info.Label)
	assert.True(t, info.Clean())
	stat, err := f.Stat()
	require.NoError(t, err)
	assert.EqualValues(t, DefaultSize, stat.Size())
	assert.EqualValues(t, 0o600, stat.Mode())
	assertAlone(t, path)
}

// assertAlone asserts that path has no neighbours, such as temporary files.
func assertAlone(t *testing.T, path string) {
	t.Helper()
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 1)
	assert.Equal(t, filepath.Base(path), names[0].Name())
}

func TestCreateReplacesOrLeavesAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(path, []byte("before"), 0o600))
	short := tree.New()
	require.NoError(t, short.Add("f", &tree.Inode{Mode: tree.TypeRegular, Size: 10, Content: strings.NewReader("short")}))
	require.ErrorIs(t, Create(path, Options{Size: MinSize, Tree: short}), ErrContent)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "before", string(got))
	assertAlone(t, path)

	require.NoError(t, Create(path, Options{Size: MinSize, Sync: true}))
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, MinSize, info.Size())
	assertAlone(t, path)

	assert.Error(t, Create(filepath.Join(path, "below"), Options{}), "a file is no directory")
}

func TestRandomUUID(t *testing.T) {
	t.Parallel()
	first, second := Options{}.complete(), Options{}.complete()
	assert.NotEqual(t, first.UUID, second.UUID)
	assert.EqualValues(t, 0x40, first.UUID[6]&0xF0)
	assert.EqualValues(t, 0x80, first.UUID[8]&0xC0)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"small":      {Size: MinSize - BlockSize},
		"negative":   {Size: -BlockSize},
		"large":      {Size: MaxSize + BlockSize},
		"unaligned":  {Size: MinSize + 512},
		"long label": {Label: strings.Repeat("l", 17)},
		"NUL":        {Label: "a\x00"},
		"early":      {Time: time.Unix(-1, 0)},
	} {
		assert.ErrorIs(t, o.Validate(), ErrOptions, name)
		assert.ErrorIs(t, Create(filepath.Join(t.TempDir(), "image"), o), ErrOptions, name)
	}
	for _, o := range []Options{{}, {Size: MinSize}, {Size: MaxSize}, {Label: strings.Repeat("l", 16)}} {
		assert.NoError(t, o.Validate())
	}
}

// TestGolden pins the bytes of an image: flat roots are named by their digest.
func TestGolden(t *testing.T) {
	t.Parallel()
	sum := func() string {
		m := formatted(t, Options{Size: 64 << 20, Tree: hostile(t), Label: "golden", Time: time.Unix(1_600_000_000, 0)})
		h := sha256.New()
		_, err := io.Copy(h, io.NewSectionReader(m, 0, m.size))
		require.NoError(t, err)
		return hex.EncodeToString(h.Sum(nil))
	}
	first := sum()
	assert.Equal(t, first, sum(), "two images differ")
	assert.Equal(t, golden, first)
}

const golden = "8b70dd282d20354f26b76b794105f5e772d209d54563ba9c0b00fcfef3c8b0c6"

func TestRefusesTrees(t *testing.T) {
	t.Parallel()
	loop := tree.New()
	loop.Root.Set("again", loop.Root)
	badName := tree.New()
	badName.Root.Set("a/b", tree.NewDir(0))
	badWhiteout := tree.New()
	badWhiteout.Root.SetWhiteout("..")
	deep := tree.New()
	at := deep.Root
	for range tree.MaxDepth + 2 {
		next := tree.NewDir(0)
		at.Set("d", next)
		at = next
	}
	one := func(n *tree.Inode) *tree.Tree {
		tr := tree.New()
		require.NoError(t, tr.Add("f", n))
		return tr
	}
	xattr := func(name string, value []byte) *tree.Tree {
		n := &tree.Inode{Mode: tree.TypeRegular}
		n.SetXattr(name, value)
		return one(n)
	}
	wide := &tree.Inode{Mode: tree.TypeRegular}
	wide.SetXattr("user.a", make([]byte, 3000))
	wide.SetXattr("user.b", make([]byte, 3000))
	links := tree.New()
	hard := file("", 0)
	for i := range maxLinks + 1 {
		require.NoError(t, links.Add(string(rune('0'+i%10))+strings.Repeat("i", i%97)+hex.EncodeToString([]byte{byte(i), byte(i >> 8)}), hard))
	}
	for name, tr := range map[string]*tree.Tree{
		"no root":       {},
		"file as root":  {Root: &tree.Inode{Mode: tree.TypeRegular}},
		"cycle":         loop,
		"slash in name": badName,
		"whiteout name": badWhiteout,
		"depth":         deep,
		"links":         links,
		"no type":       one(&tree.Inode{Mode: 0o644}),
		"empty link":    one(&tree.Inode{Mode: tree.TypeSymlink}),
		"long link":     one(&tree.Inode{Mode: tree.TypeSymlink, Target: strings.Repeat("x", 4096)}),
		"major":         one(&tree.Inode{Mode: tree.TypeChar, Major: 4096}),
		"minor":         one(&tree.Inode{Mode: tree.TypeBlock, Minor: 1 << 20}),
		"nanoseconds":   one(&tree.Inode{Mode: tree.TypeRegular, MTime: tree.Time{Nsec: 1e9}}),
		"negative size": one(&tree.Inode{Mode: tree.TypeRegular, Size: -1}),
		"no content":    one(&tree.Inode{Mode: tree.TypeRegular, Size: 1}),
		"large file":    one(&tree.Inode{Mode: tree.TypeRegular, Size: 1 << 44, Content: strings.NewReader("")}),
		"xattr sum":     one(wide),
		"xattr name":    xattr("user."+strings.Repeat("k", 256), nil),
		"xattr value":   xattr("user.k", make([]byte, 4097)),
		"ACL version":   xattr("system.posix_acl_access", []byte{1, 0, 0, 0}),
		"ACL length":    xattr("system.posix_acl_access", acl[:9]),
		"ACL tag":       xattr("system.posix_acl_access", []byte{2, 0, 0, 0, 3, 0, 7, 0, 0, 0, 0, 0}),
	} {
		err := format(newMemory(MinSize), Options{Size: MinSize, Tree: tr})
		assert.ErrorIs(t, err, ErrTree, name)
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	t.Parallel()
	tr := tree.New()
	n := &tree.Inode{Mode: tree.TypeRegular}
	n.SetXattr("user.k", make([]byte, 4097))
	require.NoError(t, tr.Add("before", tree.NewDir(0)))
	require.NoError(t, tr.Add("some/deep/file", n))
	assert.ErrorContains(t, format(newMemory(MinSize), Options{Size: MinSize, Tree: tr}), `"/some/deep/file"`)
}

func TestTooMuchForTheSize(t *testing.T) {
	t.Parallel()
	big, many := tree.New(), tree.New()
	require.NoError(t, big.Add("f", file(strings.Repeat("x", 2<<20), 0)))
	for i := range 9000 {
		many.Root.Set(string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676)}), &tree.Inode{Mode: tree.TypeFIFO})
	}
	assert.ErrorIs(t, format(newMemory(MinSize), Options{Size: MinSize, Tree: big}), ErrSpace)
	assert.ErrorIs(t, format(newMemory(MinSize), Options{Size: MinSize, Tree: many}), ErrSpace)
}

func TestReportsFullDisk(t *testing.T) {
	t.Parallel()
	m := newMemory(64 << 20)
	o := Options{Size: 64 << 20, Tree: hostile(t), UUID: testUUID}
	require.NoError(t, format(m, o))
	for left := 0; left < m.wrote; left += 1 + m.wrote/20 {
		c := newMemory(64 << 20)
		c.left = left
		assert.ErrorIs(t, format(c, o), errKilled, "after %d of %d writes", left, m.wrote)
	}
}

// TestBoundedMemory writes a file far larger than the memory that it may take. It is
// not parallel: other tests' memory would count.
func TestBoundedMemory(t *testing.T) {
	tr := tree.New()
	const size = 256 << 20
	require.NoError(t, tr.Add("f", &tree.Inode{Mode: tree.TypeRegular, Size: size, Content: pattern{}}))
	m := &discard{}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, format(m, Options{Size: 1 << 30, Tree: tr, UUID: testUUID}))
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
	assert.Greater(t, m.bytes, int64(size/7*6))
	assert.Less(t, m.bytes, int64(size))
}

// pattern is content without end.
type pattern struct{}

func (pattern) ReadAt(p []byte, off int64) (int, error) {
	fill := byte(off>>20) % 7 // every seventh MiB is a hole
	for i := range p {
		p[i] = fill
	}
	return len(p), nil
}

type discard struct{ bytes int64 }

func (d *discard) WriteAt(p []byte, _ int64) (int, error) {
	d.bytes += int64(len(p))
	return len(p), nil
}

func TestOutputGathers(t *testing.T) {
	t.Parallel()
	m := newMemory(4 << 20)
	o := output{w: m}
	var want []byte
	for i := range 300 {
		p := bytes.Repeat([]byte{byte(i)}, i*7)
		require.NoError(t, o.put(100+int64(len(want)), p))
		want = append(want, p...)
	}
	large := bytes.Repeat([]byte("large"), outputBuffer)
	require.NoError(t, o.put(100+int64(len(want)), large))
	want = append(want, large...)
	require.NoError(t, o.put(3<<20, []byte("far")))
	require.NoError(t, o.flush())
	got := make([]byte, len(want))
	_, err := m.ReadAt(got, 100)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got))
	assert.Less(t, m.wrote, 6)
}
