package erofs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func temp(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// store puts the content of all files of a tree into a layer image, as a layer's reader
// does, and finishes it.
func store(t testing.TB, f LayerFile, tr *tree.Tree) (*LayerWriter, Info) {
	t.Helper()
	w := NewLayerWriter(f)
	require.NoError(t, tr.Walk(func(_ string, n *tree.Inode) error {
		if n.Type() != tree.TypeRegular || n.Size == 0 || n.Content == io.ReaderAt(w) {
			return nil
		}
		off, err := w.Append(n.Reader(), n.Size)
		n.Content, n.Offset = w, off
		return err
	}))
	info, err := w.Finish(tr)
	require.NoError(t, err)
	return w, info
}

// changes returns a tree with all that a layer can say about those below.
func changes(t testing.TB) *tree.Tree {
	t.Helper()
	tr := hostile(t)
	require.NoError(t, tr.AddFile("implicit/deep/file", 0o644, []byte("below implicit directories")))
	opaque := tree.NewDir(0o711)
	opaque.SetXattr("user.kept", []byte("k"))
	opaque.SetOpaque()
	require.NoError(t, tr.Add("opaque", opaque))
	require.NoError(t, tr.AddFile("opaque/own", 0o600, nil))
	tr.Root.SetWhiteout("gone")
	tr.Root.SetWhiteout("empty")  // and made anew as a file
	tr.Root.SetWhiteout("opaque") // and as a directory
	tr.Lookup("hard").SetWhiteout(strings.Repeat("w", 255))
	link := tr.NewLink("usr/bin/perl")
	require.NoError(t, tr.Add("link/hard", link))
	require.NoError(t, tr.Add("link/hard2", link))
	require.NoError(t, tr.Add("replaced", tree.NewDir(0o755)))
	tr.Root.SetWhiteout("replaced")
	return tr
}

// marksOf lists what a tree says about layers below.
func marksOf(t testing.TB, tr *tree.Tree) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, tr.Walk(func(path string, n *tree.Inode) error {
		if n.Opaque() {
			all[path] += "opaque "
		}
		if n.Implicit {
			all[path] += "implicit "
		}
		for _, name := range n.Whiteouts() {
			all[path] += "hides " + name + " "
		}
		if n.Type() == tree.TypeLink {
			all[path] += "links " + n.Target
		}
		return nil
	}))
	return all
}

func TestLayerRoundTrip(t *testing.T) {
	t.Parallel()
	f, want := temp(t), changes(t)
	_, info := store(t, f, want)
	st, err := f.Stat()
	require.NoError(t, err)
	assert.Equal(t, info.Size(), st.Size())
	r, err := NewReader(f, st.Size())
	require.NoError(t, err)
	assert.True(t, r.OwnLayer())
	got, err := r.ReadLayer(100_000)
	require.NoError(t, err)
	compareTrees(t, want, got)
	assert.Equal(t, map[string]string{
		"/": "hides gone ", "/hard": "implicit hides " + strings.Repeat("w", 255) + " ", "/opaque": "opaque ", "/replaced": "opaque ",
		"/implicit": "implicit ", "/implicit/deep": "implicit ", "/link/hard": "links usr/bin/perl", "/link/hard2": "links usr/bin/perl",
	}, withoutParents(marksOf(t, got)))
	require.NoError(t, got.Walk(func(path string, n *tree.Inode) error {
		if n.Type() == tree.TypeRegular && n.Size > 0 {
			assert.Same(t, r, n.Content, path)
			assert.Zero(t, n.Offset%BlockSize, path)
		}
		return nil
	}))
	// The image of a layer read back is the same again but for where content lies.
	base := tree.New()
	for _, path := range []string{"usr/bin/perl"} {
		require.NoError(t, base.AddFile(path, 0o755, []byte("perl")))
	}
	require.NoError(t, base.Merge(got))
	assert.Same(t, base.Lookup("usr/bin/perl"), base.Lookup("link/hard"))
}

// withoutParents drops the implicit parents that the fixtures have by nature.
func withoutParents(marks map[string]string) map[string]string {
	kept := map[string]string{}
	for path, text := range marks {
		if text != "implicit " || strings.HasPrefix(path, "/implicit") {
			kept[path] = text
		}
	}
	return kept
}

// TestLayerGolden pins the format: a change of these bytes makes the fsmeta images of
// every cache stale, so it must be meant.
func TestLayerGolden(t *testing.T) {
	t.Parallel()
	for range 2 {
		f := temp(t)
		_, info := store(t, f, changes(t))
		raw := make([]byte, info.Size())
		_, err := f.ReadAt(raw, 0)
		require.NoError(t, err)
		sum := sha256.Sum256(raw)
		assert.Equal(t, layerGolden, hex.EncodeToString(sum[:]))
	}
}

const layerGolden = "a63a80b6388cd45883b3bfd5a294162b8124519604ed7c4dec0520ba421eb962"

func TestLayerReadsForeignImages(t *testing.T) {
	t.Parallel()
	tr := tree.New()
	tr.Root.Implicit = false
	require.NoError(t, tr.Add("gone", &tree.Inode{Mode: tree.TypeChar}))
	require.NoError(t, tr.Add("null", &tree.Inode{Mode: tree.TypeChar | 0o666, Major: 1, Minor: 3}))
	opaque := tree.NewDir(0o755)
	opaque.SetXattr("trusted.overlay.opaque", []byte("y"))
	require.NoError(t, tr.Add("opaque", opaque))
	require.NoError(t, tr.AddDir("plain", 0o755))
	require.NoError(t, tr.AddDir("described", 0o750))
	fake := &tree.Inode{Mode: tree.TypeRegular | 0o644}
	fake.SetXattr("trusted.gomsb.link", []byte("y"))
	require.NoError(t, tr.Add("fake", fake))
	raw := build(t, tr)
	r, err := NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	assert.False(t, r.OwnLayer())
	got, err := r.ReadLayer(100)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"/": "implicit hides gone ", "/opaque": "opaque ", "/plain": "implicit "}, marksOf(t, got))
	assert.Empty(t, got.Lookup("opaque").Xattrs)
	assert.NotNil(t, got.Lookup("null"))
	assert.Equal(t, tree.TypeRegular, got.Lookup("fake").Type())
}

func TestLayerErrors(t *testing.T) {
	t.Parallel()
	w := NewLayerWriter(temp(t))
	_, err := w.Append(strings.NewReader("abc"), 4)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	broken := errors.New("cable pulled")
	_, err = w.Append(iotest.ErrReader(broken), 4)
	assert.ErrorIs(t, err, broken)
	_, err = w.Append(strings.NewReader(""), 1<<45)
	assert.ErrorIs(t, err, ErrTree)

	tr := tree.New()
	require.NoError(t, tr.AddFile("elsewhere", 0o644, []byte("x")))
	_, err = NewLayerWriter(temp(t)).Finish(tr)
	assert.ErrorIs(t, err, ErrTree, "content that is not in the image")
	tr = tree.New()
	require.NoError(t, tr.Add("f", &tree.Inode{Mode: tree.TypeRegular, Size: 1, Content: w, Offset: 7}))
	_, err = w.Finish(tr)
	assert.ErrorIs(t, err, ErrTree, "content amid a block")

	f := temp(t)
	require.NoError(t, f.Close())
	w = NewLayerWriter(f)
	_, err = w.Append(strings.NewReader(strings.Repeat("x", layerBuffer)), layerBuffer)
	assert.ErrorIs(t, err, os.ErrClosed)
}

// TestLayerAppendDoesNotAllocate: memory must not grow with the number of files.
func TestLayerAppendDoesNotAllocate(t *testing.T) {
	w := NewLayerWriter(temp(t))
	data := bytes.Repeat([]byte("data"), 3000)
	r := bytes.NewReader(data)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		r.Reset(data)
		if _, err := w.Append(r, int64(len(data))); err != nil {
			t.Fatal(err)
		}
	}))
}
