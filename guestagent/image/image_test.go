package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testBundle(t *testing.T, data string) bundle {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(data))
	return bundle{zstd: string(w.EncodeAll([]byte(data), nil)), sha256: hex.EncodeToString(sum[:]), size: int64(len(data))}
}

const content = "the content of an image"

func assertNoLeftovers(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, ".agent-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "folder")
	b := testBundle(t, content)
	path, err := open(b, dir)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "agent-"+b.sha256+".erofs"), path)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, content, string(got))
	before, err := os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, before.Mode().Perm())

	b.zstd = "no longer readable" // proves that the file is used
	again, err := open(b, dir)
	require.NoError(t, err)
	assert.Equal(t, path, again)
	after, err := os.Stat(path)
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after))
	assertNoLeftovers(t, dir)
}

func TestDamagedFileIsReplaced(t *testing.T) {
	t.Parallel()
	b := testBundle(t, content)
	for name, old := range map[string]string{"empty": "", "cut": content[:5], "longer": content + "x"} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "agent-"+b.sha256+".erofs"), []byte(old), 0o600))
		path, err := open(b, dir)
		require.NoError(t, err, name)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, content, string(got), name)
		assertNoLeftovers(t, dir)
	}
}

func TestRefusesWhatOthersControl(t *testing.T) {
	t.Parallel()
	b := testBundle(t, content)
	for name, prepare := range map[string]func(t *testing.T, dir, path string) error{
		"symbolic link": func(t *testing.T, _, path string) error {
			elsewhere := filepath.Join(t.TempDir(), "x")
			return errors.Join(os.WriteFile(elsewhere, []byte(content), 0o600), os.Symlink(elsewhere, path))
		},
		"folder":              func(_ *testing.T, _, path string) error { return os.Mkdir(path, 0o700) },
		"fifo":                func(_ *testing.T, _, path string) error { return syscall.Mkfifo(path, 0o600) },
		"readable by others":  func(_ *testing.T, _, path string) error { return os.WriteFile(path, []byte(content), 0o644) },
		"folder for everyone": func(_ *testing.T, dir, _ string) error { return os.Chmod(dir, 0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, prepare(t, dir, filepath.Join(dir, "agent-"+b.sha256+".erofs")))
			_, err := open(b, dir)
			require.ErrorIs(t, err, ErrCache)
			assertNoLeftovers(t, dir)
		})
	}
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := open(b, file)
	require.ErrorIs(t, err, ErrCache)
	_, err = open(b, "")
	require.ErrorIs(t, err, ErrCache)
}

func TestBundleMustMatchItsDigest(t *testing.T) {
	t.Parallel()
	good := testBundle(t, content)
	for name, change := range map[string]func(*bundle){
		"digest":       func(b *bundle) { b.sha256 = testBundle(t, "x").sha256 },
		"size too big": func(b *bundle) { b.size++ },
		"size too low": func(b *bundle) { b.size-- },
		"cut":          func(b *bundle) { b.zstd = b.zstd[:len(b.zstd)/2] },
		"not zstd":     func(b *bundle) { b.zstd = "hello, world" },
		"window 2 GiB": func(b *bundle) { b.zstd = "\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00" },
	} {
		b := good
		change(&b)
		_, err := open(b, t.TempDir())
		require.ErrorIs(t, err, ErrCorrupt, name)
	}
	_, err := open(bundle{}, t.TempDir())
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// Many processes may start at once with a cold cache.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cold")
	b := testBundle(t, content)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			path, err := open(b, dir)
			if assert.NoError(t, err) {
				got, err := os.ReadFile(path)
				assert.NoError(t, err)
				assert.Equal(t, content, string(got))
			}
		})
	}
	wg.Wait()
	assertNoLeftovers(t, dir)
}
