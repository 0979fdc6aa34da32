package erofs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func reread(t testing.TB, raw []byte) *tree.Tree {
	t.Helper()
	r, err := NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	got, err := r.Tree(100_000)
	require.NoError(t, err)
	return got
}

type flat struct {
	Node    tree.Inode
	Content string
	Twin    string // first path of the same inode
}

func flatten(t testing.TB, tr *tree.Tree) map[string]flat {
	t.Helper()
	all, first := map[string]flat{}, map[*tree.Inode]string{}
	require.NoError(t, tr.Walk(func(path string, n *tree.Inode) error {
		if _, ok := first[n]; !ok {
			first[n] = path
		}
		content, err := io.ReadAll(n.Reader())
		require.NoError(t, err)
		f := flat{Content: string(content), Twin: first[n]}
		f.Node.Mode, f.Node.UID, f.Node.GID, f.Node.MTime = n.Mode, n.UID, n.GID, n.MTime
		f.Node.Major, f.Node.Minor, f.Node.Size, f.Node.Target = n.Major, n.Minor, n.Size, n.Target
		for _, x := range n.Xattrs {
			if StorableXattr(x.Name) {
				f.Node.SetXattr(x.Name, append([]byte{}, x.Value...))
			}
		}
		all[path] = f
		return nil
	}))
	return all
}

func compareTrees(t testing.TB, want, got *tree.Tree) {
	t.Helper()
	w, g := flatten(t, want), flatten(t, got)
	assert.Len(t, g, len(w))
	for path := range w {
		assert.Equal(t, w[path], g[path], path)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	want := hostile(t)
	compareTrees(t, want, reread(t, build(t, want)))
}

func TestEmptyTree(t *testing.T) {
	t.Parallel()
	raw := build(t, tree.New())
	assert.Len(t, raw, 2*BlockSize)
	got := reread(t, raw)
	assert.EqualValues(t, tree.TypeDir|0o755, got.Root.Mode)
	assert.Zero(t, got.Root.Len())
}

// TestGolden pins the format: a change of these bytes orphans every cached image, so
// it must be meant.
func TestGolden(t *testing.T) {
	t.Parallel()
	first, second := build(t, hostile(t)), build(t, hostile(t))
	require.True(t, bytes.Equal(first, second), "two builds differ")
	sum := sha256.Sum256(first)
	assert.Equal(t, golden, hex.EncodeToString(sum[:]))
}

const golden = "6bc1b91283ac687a5a10035b873374b7d0d749d353b5d6d19e6fd1207229b313"

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	loop := tree.New()
	loop.Root.Set("again", loop.Root)
	badName := tree.New()
	badName.Root.Set("a/b", tree.NewDir(0))
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
	wide := &tree.Inode{Mode: tree.TypeRegular}
	for i := range 5 {
		wide.SetXattr("user."+string(rune('a'+i)), make([]byte, 65535))
	}
	long := &tree.Inode{Mode: tree.TypeRegular}
	long.SetXattr("user."+strings.Repeat("k", 256), nil)
	heavy := &tree.Inode{Mode: tree.TypeRegular}
	heavy.SetXattr("user.k", make([]byte, 65536))
	for name, tr := range map[string]*tree.Tree{
		"nil":             nil,
		"no root":         {},
		"file as root":    {Root: &tree.Inode{Mode: tree.TypeRegular}},
		"cycle":           loop,
		"slash in name":   badName,
		"depth":           deep,
		"no type":         one(&tree.Inode{Mode: 0o644}),
		"empty link":      one(&tree.Inode{Mode: tree.TypeSymlink}),
		"long link":       one(&tree.Inode{Mode: tree.TypeSymlink, Target: strings.Repeat("x", 4096)}),
		"major":           one(&tree.Inode{Mode: tree.TypeChar, Major: 4096}),
		"minor":           one(&tree.Inode{Mode: tree.TypeBlock, Minor: 1 << 20}),
		"nanoseconds":     one(&tree.Inode{Mode: tree.TypeRegular, MTime: tree.Time{Nsec: 1e9}}),
		"negative size":   one(&tree.Inode{Mode: tree.TypeRegular, Size: -1}),
		"no content":      one(&tree.Inode{Mode: tree.TypeRegular, Size: 1}),
		"too many blocks": one(&tree.Inode{Mode: tree.TypeRegular, Size: 1 << 44, Content: strings.NewReader("")}),
		"xattr sum":       one(wide),
		"xattr name":      one(long),
		"xattr value":     one(heavy),
	} {
		_, err := Build(io.Discard, tr)
		assert.ErrorIs(t, err, ErrTree, name)
	}
}

func TestBuildReportsShortContent(t *testing.T) {
	t.Parallel()
	tr := tree.New()
	require.NoError(t, tr.Add("f", &tree.Inode{Mode: tree.TypeRegular, Size: 10, Content: strings.NewReader("short")}))
	_, err := Build(io.Discard, tr)
	assert.ErrorIs(t, err, ErrContent)
}

type full struct{ left int }

var errFull = errors.New("disk full")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestBuildReportsFullDisk(t *testing.T) {
	t.Parallel()
	tr := hostile(t)
	size := len(build(t, tr))
	for left := 0; left < size; left += size / 7 {
		_, err := Build(&full{left: left}, tr)
		assert.ErrorIs(t, err, errFull, "with room for %d bytes", left)
	}
}
