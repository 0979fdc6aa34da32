package kernel

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

// testBundle compresses data as build.sh does.
func testBundle(t *testing.T, data []byte) bundle {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	return bundle{zstd: string(w.EncodeAll(data, nil)), sha256: hex.EncodeToString(sum[:]), size: int64(len(data))}
}

func (b bundle) path(dir string) string { return filepath.Join(dir, "kernel-"+b.sha256+".elf") }

func TestCacheIsReused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := testBundle(t, testVmlinux())
	first, err := openBundle(b, dir)
	require.NoError(t, err)
	before, err := os.Stat(b.path(dir))
	require.NoError(t, err)

	b.zstd = "no longer readable" // proves that the file is used
	second, err := openBundle(b, dir)
	require.NoError(t, err)
	after, err := os.Stat(b.path(dir))
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after))
	assert.Equal(t, first.Entry, second.Entry)
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	assertNoLeftovers(t, dir)
}

func TestCacheReplacesDamagedFile(t *testing.T) {
	t.Parallel()
	good := testVmlinux()
	b := testBundle(t, good)
	for name, content := range map[string][]byte{
		"empty":       {},
		"cut":         good[:len(good)/2],
		"longer":      append(append([]byte(nil), good...), 0),
		"overwritten": make([]byte, len(good)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(b.path(dir), content, 0o600))
			img, err := openBundle(b, dir)
			require.NoError(t, err)
			require.NoError(t, img.Close())
			now, err := os.ReadFile(b.path(dir))
			require.NoError(t, err)
			assert.Equal(t, good, now)
			assertNoLeftovers(t, dir)
		})
	}
}

func TestCacheRefusesWhatOthersControl(t *testing.T) {
	t.Parallel()
	good := testVmlinux()
	b := testBundle(t, good)
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"symbolic link": func(t *testing.T, dir string) {
			elsewhere := filepath.Join(t.TempDir(), "k")
			require.NoError(t, os.WriteFile(elsewhere, good, 0o600))
			require.NoError(t, os.Symlink(elsewhere, b.path(dir)))
		},
		"dangling symbolic link": func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink("/nonexistent/k", b.path(dir)))
		},
		"folder": func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(b.path(dir), 0o700)) },
		"fifo":   func(t *testing.T, dir string) { require.NoError(t, syscall.Mkfifo(b.path(dir), 0o600)) },
		"readable by others": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(b.path(dir), good, 0o644))
		},
		"writable by the group": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(b.path(dir), good, 0o600))
			require.NoError(t, os.Chmod(b.path(dir), 0o620))
		},
		"folder writable by everybody": func(t *testing.T, dir string) { require.NoError(t, os.Chmod(dir, 0o1777)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			prepare(t, dir)
			img, err := openBundle(b, dir)
			require.ErrorIs(t, err, ErrCache)
			assert.Nil(t, img)
			assertNoLeftovers(t, dir)
		})
	}
}

func TestCacheFolderIsAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := openBundle(testBundle(t, testVmlinux()), path)
	require.ErrorIs(t, err, ErrCache)
}

func TestBundleMustMatchItsDigest(t *testing.T) {
	t.Parallel()
	good := testBundle(t, testVmlinux())
	for name, change := range map[string]func(*bundle){
		"digest":        func(b *bundle) { b.sha256 = testBundle(t, []byte("x")).sha256 },
		"size too big":  func(b *bundle) { b.size++ },
		"size too low":  func(b *bundle) { b.size-- },
		"cut":           func(b *bundle) { b.zstd = b.zstd[:len(b.zstd)/2] },
		"not zstd":      func(b *bundle) { b.zstd = "hello, world" },
		"not a kernel":  func(b *bundle) { *b = testBundle(t, make([]byte, 5000)) },
		"zstd bomb":     func(b *bundle) { z := testBundle(t, make([]byte, 64<<20)); z.size = b.size; *b = z },
		"window 2 GiB":  func(b *bundle) { b.zstd = "\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00" },
		"empty content": func(b *bundle) { b.zstd = testBundle(t, nil).zstd },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := good
			change(&b)
			for _, dir := range []string{"", t.TempDir()} {
				img, err := openBundle(b, dir)
				require.Error(t, err)
				assert.Nil(t, img)
			}
		})
	}
}

func TestNoBundle(t *testing.T) {
	t.Parallel()
	_, err := openBundle(bundle{}, t.TempDir())
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// Many processes may start at once with a cold cache.
func TestCacheConcurrently(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cold")
	b := testBundle(t, testVmlinux())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			img, err := openBundle(b, dir)
			if assert.NoError(t, err) {
				assert.Equal(t, byte(0x10), img.Segments[0].Data[0])
				assert.NoError(t, img.Close())
			}
		})
	}
	wg.Wait()
	assertNoLeftovers(t, dir)
}

func assertNoLeftovers(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, ".kernel-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
