package tree

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":             nil,
		"/":            nil,
		"./":           nil,
		"a":            {"a"},
		"./a/./b//c/":  {"a", "b", "c"},
		"///a":         {"a"},
		"..a/b..":      {"..a", "b.."},
		".../\xff\xfe": {"...", "\xff\xfe"},
	} {
		got, err := Split(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	for _, in := range []string{"..", "a/../b", "/..", "a/..", "a\x00b", strings.Repeat("n", 256)} {
		_, err := Split(in)
		assert.ErrorIs(t, err, ErrPath, in)
	}
	_, err := Split(strings.Repeat("n", 255))
	assert.NoError(t, err)
}

func TestLookupFollowsNothing(t *testing.T) {
	t.Parallel()
	tr := New()
	require.NoError(t, tr.AddFile("etc/passwd", 0o644, []byte("root")))
	require.NoError(t, tr.AddSymlink("link", "etc"))
	assert.NotNil(t, tr.Lookup("/etc/passwd"))
	assert.Nil(t, tr.Lookup("/link/passwd"))
	assert.Nil(t, tr.Lookup("/etc/../etc/passwd"))
	assert.Nil(t, tr.Lookup("/etc/passwd/x"))
	assert.Same(t, tr.Root, tr.Lookup("/"))
	assert.ErrorIs(t, tr.AddDir("/", 0o755), ErrPath)
	assert.ErrorIs(t, tr.AddDir(strings.Repeat("d/", MaxDepth+1), 0o755), ErrPath)
}

func TestParentReplacesWhatIsNoDirectory(t *testing.T) {
	t.Parallel()
	tr := New()
	require.NoError(t, tr.AddSymlink("a", "/etc"))
	require.NoError(t, tr.AddFile("a/passwd", 0o644, nil))
	a := tr.Lookup("a")
	assert.True(t, a.IsDir() && a.Implicit)
	assert.NotNil(t, tr.Lookup("a/passwd"))
}

func TestXattrsStaySorted(t *testing.T) {
	t.Parallel()
	n := NewDir(0)
	for _, name := range []string{"user.b", "user.c", "user.a", "user.b"} {
		n.SetXattr(name, []byte(name))
	}
	n.SetXattr("user.b", []byte("new"))
	require.Len(t, n.Xattrs, 3)
	assert.Equal(t, "user.a", n.Xattrs[0].Name)
	value, ok := n.Xattr("user.b")
	assert.True(t, ok)
	assert.Equal(t, "new", string(value))
	_, ok = n.Xattr("user.d")
	assert.False(t, ok)
}

func TestReader(t *testing.T) {
	t.Parallel()
	n := &Inode{Mode: TypeRegular, Size: 3, Offset: 2, Content: strings.NewReader("xxabcxx")}
	got, err := io.ReadAll(n.Reader())
	require.NoError(t, err)
	assert.Equal(t, "abc", string(got))
	got, err = io.ReadAll((&Inode{Mode: TypeRegular}).Reader())
	require.NoError(t, err)
	assert.Empty(t, got)
}

// paths lists a tree, one line a name, with content, mode and owner.
func paths(t *testing.T, tr *Tree) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, tr.Walk(func(path string, n *Inode) error {
		var b bytes.Buffer
		_, err := io.Copy(&b, n.Reader())
		require.NoError(t, err)
		all[path] = b.String() + n.Target
		assert.False(t, n.Opaque(), path)
		assert.Empty(t, n.Whiteouts(), path)
		return nil
	}))
	return all
}

func lower(t *testing.T) *Tree {
	t.Helper()
	tr := New()
	for _, path := range []string{"dir/a", "dir/b", "dir/sub/c", "file", "gone", "opaque/x", "opaque/y/z"} {
		require.NoError(t, tr.AddFile(path, 0o644, []byte("lower")))
	}
	require.NoError(t, tr.AddSymlink("lib", "usr/lib"))
	return tr
}

func TestMerge(t *testing.T) {
	t.Parallel()
	tr, layer := lower(t), New()
	add := func(path string) { require.NoError(t, layer.AddFile(path, 0o644, []byte("upper"))) }
	add("dir/a")
	add("dir/new")
	add("file/now/a/directory")
	add("opaque/kept")
	add("lib/real")
	layer.Lookup("dir").SetWhiteout("b")
	layer.Lookup("dir").SetWhiteout("new") // hides the lower one only
	layer.Root.SetWhiteout("gone")
	layer.Root.SetWhiteout("never-was")
	layer.Lookup("opaque").SetOpaque()
	layer.Lookup("lib").SetOpaque()
	layer.Lookup("lib").SetWhiteout("nothing")
	require.NoError(t, tr.Merge(layer))
	assert.Equal(t, map[string]string{
		"/": "", "/dir": "", "/dir/a": "upper", "/dir/new": "upper", "/dir/sub": "", "/dir/sub/c": "lower",
		"/file": "", "/file/now": "", "/file/now/a": "", "/file/now/a/directory": "upper",
		"/opaque": "", "/opaque/kept": "upper", "/lib": "", "/lib/real": "upper",
	}, paths(t, tr))
}

func TestMergeWhiteoutOfReplacedDirectory(t *testing.T) {
	t.Parallel()
	tr, layer := lower(t), New()
	require.NoError(t, layer.AddFile("dir/only", 0o644, []byte("upper")))
	layer.Root.SetWhiteout("dir")
	require.NoError(t, tr.Merge(layer))
	got := paths(t, tr)
	assert.Contains(t, got, "/dir/only")
	assert.NotContains(t, got, "/dir/a")
}

func TestMergeOpaqueRoot(t *testing.T) {
	t.Parallel()
	tr, layer := lower(t), New()
	require.NoError(t, layer.AddFile("only", 0o644, nil))
	layer.Root.SetOpaque()
	require.NoError(t, tr.Merge(layer))
	assert.Equal(t, map[string]string{"/": "", "/only": ""}, paths(t, tr))
}

func TestMergeAttributes(t *testing.T) {
	t.Parallel()
	tr := New()
	require.NoError(t, tr.Add("private", &Inode{Mode: TypeDir | 0o700, UID: 5}))
	require.NoError(t, tr.Add("changed", NewDir(0o755)))
	tr.Root.Describe(&Inode{Mode: TypeDir | 0o750, UID: 9})
	layer := New()
	require.NoError(t, layer.AddFile("private/file", 0o600, nil)) // its parent is implicit
	explicit := NewDir(0o1777)
	explicit.SetXattr("user.k", []byte("v"))
	require.NoError(t, layer.Add("changed", explicit))
	require.NoError(t, tr.Merge(layer))
	assert.EqualValues(t, TypeDir|0o700, tr.Lookup("private").Mode)
	assert.EqualValues(t, 5, tr.Lookup("private").UID)
	assert.EqualValues(t, TypeDir|0o750, tr.Root.Mode)
	assert.EqualValues(t, TypeDir|0o1777, tr.Lookup("changed").Mode)
	assert.Len(t, tr.Lookup("changed").Xattrs, 1)
	assert.Equal(t, 1, tr.Lookup("private").Len())
}

func TestWalkStopsAtError(t *testing.T) {
	t.Parallel()
	visits := 0
	err := lower(t).Walk(func(string, *Inode) error {
		if visits++; visits == 3 {
			return io.ErrClosedPipe
		}
		return nil
	})
	assert.ErrorIs(t, err, io.ErrClosedPipe)
	assert.Equal(t, 3, visits)
}

func TestWalkRefusesCycle(t *testing.T) {
	t.Parallel()
	tr := New()
	tr.Root.Set("again", tr.Root)
	assert.ErrorIs(t, tr.Walk(func(string, *Inode) error { return nil }), ErrShape)
}

func TestMergeResolvesHardLinks(t *testing.T) {
	t.Parallel()
	tr := New()
	require.NoError(t, tr.AddFile("etc/target", 0o644, []byte("x")))
	target := tr.Lookup("etc/target")
	layer := New()
	require.NoError(t, layer.Add("deep/er/link", layer.NewLink("etc/target")))
	require.NoError(t, layer.Add("again", layer.Lookup("deep/er/link")))
	layer.Root.SetWhiteout("etc")
	require.NoError(t, tr.Merge(layer))
	assert.Same(t, target, tr.Lookup("deep/er/link"))
	assert.Same(t, target, tr.Lookup("again"))
	assert.Nil(t, tr.Lookup("etc"), "the layer hides the target's own name")

	for _, missing := range []string{"nothing", "deep", "again/x", "", "../again"} {
		bad := New()
		require.NoError(t, bad.AddFile("new", 0o644, nil))
		require.NoError(t, bad.Add("link", bad.NewLink(missing)))
		assert.ErrorIs(t, tr.Merge(bad), ErrLink, missing)
		assert.Nil(t, tr.Lookup("new"), "a refused layer changes nothing")
	}
}
