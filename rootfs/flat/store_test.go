package flat

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/tree"
)

func newStore(t *testing.T) Store {
	t.Helper()
	dir := t.TempDir()
	s := Store{Dir: filepath.Join(dir, "flat"), Tmp: filepath.Join(dir, "tmp")}
	require.NoError(t, os.Mkdir(s.Tmp, 0o700))
	return s
}

var testImage = Image{Manifest: "sha256:" + strings.Repeat("a", 64), DiffIDs: []string{"sha256:" + strings.Repeat("b", 64), "sha256:" + strings.Repeat("c", 64)}, OS: "linux", Architecture: "amd64"}

// content makes a tree and counts how often it was asked to.
func content(t *testing.T, asked *atomic.Int32) func(func(*tree.Tree) error) error {
	return func(use func(*tree.Tree) error) error {
		asked.Add(1)
		files := tree.New()
		require.NoError(t, files.AddFile("/etc/hostname", 0o644, []byte("flat\n")))
		require.NoError(t, files.AddDir("/tmp", 0o1777))
		return use(files)
	}
}

func TestRoot(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var asked atomic.Int32
	r, err := s.Root(t.Context(), testImage, content(t, &asked))
	require.NoError(t, err)
	assert.Equal(t, int64(256<<20), r.Size)
	again, err := s.Root(t.Context(), testImage, content(t, &asked))
	require.NoError(t, err)
	assert.Equal(t, r, again)
	assert.EqualValues(t, 1, asked.Load(), "it is made once")
	left, err := os.ReadDir(s.Tmp)
	require.NoError(t, err)
	assert.Empty(t, left)

	f, err := os.Open(r.Path)
	require.NoError(t, err)
	defer f.Close()
	info, err := ext4.Inspect(f)
	require.NoError(t, err)
	assert.True(t, info.Clean())
	assert.Equal(t, r.Size, info.Size)
	assert.Equal(t, byte(0x40), info.UUID[6]&0xf0)
	assert.Equal(t, byte(0x80), info.UUID[8]&0xc0)
	if fsck, err := exec.LookPath("e2fsck"); err == nil {
		out, err := exec.CommandContext(t.Context(), fsck, "-fn", r.Path).CombinedOutput()
		require.NoError(t, err, string(out))
	}

	other := newStore(t)
	same, err := other.Root(t.Context(), testImage, content(t, &asked))
	require.NoError(t, err)
	assert.Equal(t, filepath.Base(r.Path), filepath.Base(same.Path), "equal images give equal bytes")
	reordered := testImage
	reordered.DiffIDs = []string{testImage.DiffIDs[1], testImage.DiffIDs[0]}
	assert.NotEqual(t, testImage.derivation(), reordered.derivation())
	variant := testImage
	variant.Variant = "v3"
	assert.NotEqual(t, testImage.derivation(), variant.derivation())
	third, err := s.Root(t.Context(), reordered, content(t, &asked))
	require.NoError(t, err)
	assert.NotEqual(t, r.Path, third.Path)
}

// What is not what it should be is made anew.
func TestRootIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var asked atomic.Int32
	r, err := s.Root(t.Context(), testImage, content(t, &asked))
	require.NoError(t, err)
	ref := s.ref(testImage.Manifest)
	text, err := os.ReadFile(ref)
	require.NoError(t, err)
	for name, spoiled := range map[string]string{
		"empty":       "",
		"cut off":     string(text[:20]),
		"other image": strings.ReplaceAll(string(text), "aaaa", "dddd"),
		"older make":  strings.Replace(string(text), `_abi":2`, `_abi":1`, 1),
		"other size":  strings.Replace(string(text), `_bytes":2`, `_bytes":1`, 1),
	} {
		require.NotEqual(t, string(text), spoiled, name)
		require.NoError(t, os.WriteFile(ref, []byte(spoiled), 0o600))
		_, ok := s.find(&testImage)
		assert.False(t, ok, name)
	}
	for name, spoil := range map[string]func() error{
		"no document":         func() error { return os.Remove(ref) },
		"file system cut off": func() error { return os.Truncate(r.Path, 4096) },
		"a link":              func() error { return errors.Join(os.Remove(r.Path), os.Symlink("/etc/passwd", r.Path)) },
	} {
		require.NoError(t, spoil(), name)
		before := asked.Load()
		again, err := s.Root(t.Context(), testImage, content(t, &asked))
		require.NoError(t, err, name)
		assert.Equal(t, r, again, name)
		assert.Equal(t, before+1, asked.Load(), name)
	}
}

func TestRootFails(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	wrong := errors.New("wrong")
	_, err := s.Root(t.Context(), testImage, func(func(*tree.Tree) error) error { return wrong })
	require.ErrorIs(t, err, wrong)
	broken := tree.New()
	require.NoError(t, broken.Add("/f", &tree.Inode{Mode: tree.TypeRegular, Size: 100, Content: strings.NewReader("short")}))
	_, err = s.Root(t.Context(), testImage, func(use func(*tree.Tree) error) error { return use(broken) })
	require.ErrorIs(t, err, ext4.ErrContent)
	for _, dir := range []string{s.Tmp, filepath.Join(s.Dir, refsDir), filepath.Join(s.Dir, blobsDir)} {
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left)
	}
	var asked atomic.Int32
	r, err := s.Root(t.Context(), testImage, content(t, &asked))
	require.NoError(t, err)
	assert.FileExists(t, r.Path)
}

// Many at once make one file system, and whoever gives up does not wait.
func TestRootAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var asked atomic.Int32
	started, proceed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := s.Root(t.Context(), testImage, func(use func(*tree.Tree) error) error {
			close(started)
			<-proceed
			return content(t, &asked)(use)
		})
		assert.NoError(t, err)
	})
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Root(ctx, testImage, content(t, &asked))
	require.ErrorIs(t, err, context.Canceled)
	for range 3 {
		wg.Go(func() {
			_, err := s.Root(t.Context(), testImage, content(t, &asked))
			assert.NoError(t, err)
		})
	}
	close(proceed)
	wg.Wait()
	assert.EqualValues(t, 1, asked.Load())
}

// TestSweep removes what killed processes left in Tmp, and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var asked atomic.Int32
	other := Image{Manifest: "sha256:" + strings.Repeat("e", 64), OS: "linux", Architecture: "amd64"}
	leave := func(i *Image) string {
		dir := s.part(i.derivation().String())
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".root.raw-1.part"), make([]byte, 8192), 0o600))
		return dir
	}
	foreign := filepath.Join(s.Tmp, partPrefix+"other")
	require.NoError(t, os.Mkdir(foreign, 0o700))
	own, others := leave(&testImage), leave(&other)
	_, err := s.Root(t.Context(), testImage, func(use func(*tree.Tree) error) error {
		leave(&testImage) // a process that was killed after we looked
		return content(t, &asked)(use)
	})
	require.NoError(t, err)
	assert.NoDirExists(t, own)
	assert.NoDirExists(t, others)

	others = leave(&other)
	unlock, err := lock(t.Context(), s.lockOf(other.derivation().String()))
	require.NoError(t, err)
	freed, err := s.Prune(func(string) bool { return true })
	require.NoError(t, err)
	assert.Zero(t, freed)
	assert.DirExists(t, others, "somebody is at it")
	unlock()
	freed, err = s.Prune(func(string) bool { return true })
	require.NoError(t, err)
	assert.GreaterOrEqual(t, freed, int64(8192))
	assert.NoDirExists(t, others)
	assert.DirExists(t, foreign)
}

// readerAtFunc is content that says when it is read.
type readerAtFunc func(p []byte, off int64) (int, error)

func (f readerAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// TestNoRoomForTheDocument leaves no file system that nothing refers to.
func TestNoRoomForTheDocument(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	inTheWay := filepath.Join(s.part(testImage.derivation().String()), "ref.json")
	_, err := s.Root(t.Context(), testImage, func(use func(*tree.Tree) error) error {
		files := tree.New()
		content := readerAtFunc(func(p []byte, _ int64) (int, error) { return len(p), os.MkdirAll(inTheWay, 0o700) })
		require.NoError(t, files.Add("/f", &tree.Inode{Mode: tree.TypeRegular | 0o644, Size: 4096, Content: content}))
		return use(files)
	})
	require.ErrorIs(t, err, os.ErrExist)
	for _, dir := range []string{s.Tmp, filepath.Join(s.Dir, blobsDir), filepath.Join(s.Dir, refsDir)} {
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left, dir)
	}
	var asked atomic.Int32
	_, err = s.Root(t.Context(), testImage, content(t, &asked))
	require.NoError(t, err)
}

func TestDigestStops(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := digest(ctx, path)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	freed, err := s.Prune(func(string) bool { return false })
	require.NoError(t, err, "an empty store")
	assert.Zero(t, freed)
	var asked atomic.Int32
	kept, err := s.Root(t.Context(), testImage, content(t, &asked))
	require.NoError(t, err)
	other := Image{Manifest: "sha256:" + strings.Repeat("e", 64), OS: "linux", Architecture: "amd64"}
	gone, err := s.Root(t.Context(), other, content(t, &asked))
	require.NoError(t, err)
	keep := func(manifest string) bool { return manifest == testImage.Manifest }
	_, err = s.Prune(keep)
	require.NoError(t, err)
	assert.FileExists(t, gone.Path, "its document may not have been written yet")
	assert.NoFileExists(t, s.ref(other.Manifest))
	require.NoError(t, os.Chtimes(gone.Path, time.Time{}, time.Now().Add(-2*pruneAge)))
	freed, err = s.Prune(keep)
	require.NoError(t, err)
	assert.Positive(t, freed)
	assert.NoFileExists(t, gone.Path)
	assert.FileExists(t, kept.Path)
}
