package patch

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hostRoot makes a directory that is a root, and one outside of it.
func hostRoot(t *testing.T) (root, outside string) {
	t.Helper()
	top := t.TempDir()
	root, outside = filepath.Join(top, "root"), filepath.Join(top, "outside")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "usr", "bin"), 0o755))
	require.NoError(t, os.Mkdir(outside, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc", "hosts"), []byte("a\n"), 0o640))
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	for link, target := range map[string]string{
		"bin": "usr/bin", "abs": "/usr/bin", "up": "../../../../usr/bin", "out": "/outside", "loop": "loop", "etc/hosts.link": "hosts", "host": outside,
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(root, link)))
	}
	return root, outside
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	require.NoError(t, err)
	return string(b)
}

func TestApply(t *testing.T) {
	t.Parallel()
	root, _ := hostRoot(t)
	before, err := os.Stat(filepath.Join(root, "etc", "hosts"))
	require.NoError(t, err)
	require.NoError(t, Apply(t.Context(), []Patch{
		{Kind: Text, Path: "/bin/relative", Content: []byte("r"), Mode: mode(0o755)},
		{Kind: Text, Path: "/abs/absolute", Content: []byte("a")},
		{Kind: Text, Path: "/up/dots", Content: []byte("d")},
		{Kind: Mkdir, Path: "/etc/d", Mode: mode(0o1700)},
		{Kind: Mkdir, Path: "/usr", Mode: mode(0o711)},
		{Kind: File, Path: "/etc/d/f", Content: []byte{1, 2}},
		{Kind: Append, Path: "/etc/d/f", Content: []byte{3}},
		{Kind: Append, Path: "/etc/hosts", Content: []byte("b\n")},
		{Kind: Append, Path: "/etc/hosts", Content: []byte("c\n")},
		{Kind: Symlink, Link: "/etc/hosts.link", Target: "d/f", Replace: true},
		{Kind: Remove, Path: "/loop"},
		{Kind: Remove, Path: "/out"},
		{Kind: Text, Path: "/out/f", Content: []byte("in a directory now")},
		{Kind: Remove, Path: "/none"},
		{Kind: CopyDir, Src: hostTree(t), Dst: "/opt"},
	}, root))
	assert.Equal(t, "r", read(t, root, "usr/bin/relative"))
	assert.Equal(t, "a", read(t, root, "usr/bin/absolute"))
	assert.Equal(t, "d", read(t, root, "usr/bin/dots"))
	assert.Equal(t, "a\nb\nc\n", read(t, root, "etc/hosts"))
	after, err := os.Stat(filepath.Join(root, "etc", "hosts"))
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "with its owner and attributes")
	assert.Equal(t, "\x01\x02\x03", read(t, root, "etc/hosts.link"))
	assert.Equal(t, "in a directory now", read(t, root, "out/f"))
	assert.Equal(t, "xxxxx", read(t, root, "opt/sub/f"))
	_, err = os.Lstat(filepath.Join(root, "loop"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	for path, want := range map[string]os.FileMode{"usr/bin/relative": 0o755, "etc/d": 0o700 | os.ModeSticky | os.ModeDir, "usr": 0o711 | os.ModeDir, "etc/d/f": 0o644, "opt/run": 0o755} {
		info, err := os.Stat(filepath.Join(root, path))
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode(), path)
	}
}

// Nothing is changed if a patch cannot be made, and nothing outside in any case.
func TestApplyStaysInside(t *testing.T) {
	t.Parallel()
	first := Patch{Kind: Text, Path: "/first"}
	for name, c := range map[string]struct {
		patch Patch
		err   error
	}{
		"exists":                {Patch{Kind: Text, Path: "/etc/hosts"}, ErrExists},
		"exists behind a link":  {Patch{Kind: Text, Path: "/etc/hosts.link"}, ErrExists},
		"loop":                  {Patch{Kind: Text, Path: "/loop/f"}, ErrKind},
		"file in front":         {Patch{Kind: Text, Path: "/etc/hosts/f"}, ErrKind},
		"append through a link": {Patch{Kind: Append, Path: "/etc/hosts.link"}, ErrKind},
		"append to nothing":     {Patch{Kind: Append, Path: "/none"}, ErrNotFound},
		"source is missing":     {Patch{Kind: CopyFile, Path: "/x", Dst: "/x", Src: "/none"}, ErrSource},
		"invalid":               {Patch{Kind: Remove, Path: "/"}, ErrInvalid},
	} {
		root, _ := hostRoot(t)
		require.ErrorIs(t, Apply(t.Context(), []Patch{first, c.patch}, root), c.err, name)
		_, err := os.Lstat(filepath.Join(root, "first"))
		assert.ErrorIs(t, err, os.ErrNotExist, name)
	}
	root, outside := hostRoot(t)
	require.NoError(t, Apply(t.Context(), []Patch{
		{Kind: Text, Path: "/out/secret", Content: []byte("x"), Replace: true}, // a link to where this root has nothing
		{Kind: Text, Path: "/host/secret", Content: []byte("x"), Replace: true},
		{Kind: Remove, Path: "/host/other"},
		{Kind: Remove, Path: "/host"},
	}, root))
	assert.Equal(t, "secret", read(t, outside, "secret"))
	assert.Equal(t, "x", read(t, root, "outside", "secret"))
	assert.Equal(t, "x", read(t, root+outside, "secret"), "the same path, below the root")
	assert.ErrorIs(t, Apply(t.Context(), nil, "/none"), os.ErrNotExist)
	assert.ErrorContains(t, Apply(t.Context(), nil, filepath.Join(outside, "secret")), "not a directory")
}

// Of many who make the same new file one wins.
func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	root, _ := hostRoot(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if Apply(t.Context(), []Patch{{Kind: Text, Path: "/etc/new", Content: []byte("x")}}, root) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, won.Load())
}
