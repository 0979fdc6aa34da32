package sparse

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// holey writes a file of 256 MiB with data at two places.
func holey(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "source")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(256*mib))
	_, err = f.WriteAt([]byte("first"), 4*mib)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("last"), 256*mib-4)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	return path
}

func TestCopyFileKeepsBytesAndHoles(t *testing.T) {
	src := holey(t)
	dst := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, CopyFile(context.Background(), dst, src, 0o600))
	want, err := os.ReadFile(src)
	require.NoError(t, err)
	got, err := os.ReadFile(dst)
	require.NoError(t, err)
	require.True(t, string(want) == string(got), "copy differs")
	var st unix.Stat_t
	require.NoError(t, unix.Stat(dst, &st))
	require.Less(t, st.Blocks*512, int64(mib))
	require.Equal(t, uint32(0o600), st.Mode&0o777)
}

func TestCopyExtentsKeepsBytesAndHoles(t *testing.T) {
	src, err := os.Open(holey(t))
	require.NoError(t, err)
	defer src.Close()
	dst, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	require.NoError(t, err)
	defer dst.Close()
	require.NoError(t, copyExtents(context.Background(), dst, src, 256*mib))
	b := make([]byte, 5)
	_, err = dst.ReadAt(b, 4*mib)
	require.NoError(t, err)
	require.Equal(t, "first", string(b))
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(dst.Fd()), &st))
	require.Less(t, st.Blocks*512, int64(mib))
	require.EqualValues(t, 256*mib, st.Size)
}

func TestCopyFileRefusals(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	require.NoError(t, os.WriteFile(src, []byte("x"), 0o600))
	require.NoError(t, os.Symlink(src, filepath.Join(dir, "link")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	ctx := context.Background()
	dst := filepath.Join(dir, "dst")
	require.ErrorIs(t, CopyFile(ctx, dst, filepath.Join(dir, "none"), 0o600), os.ErrNotExist)
	require.ErrorIs(t, CopyFile(ctx, dst, filepath.Join(dir, "link"), 0o600), ErrNotRegular)
	require.ErrorIs(t, CopyFile(ctx, dst, filepath.Join(dir, "pipe"), 0o600), ErrNotRegular)
	require.ErrorIs(t, CopyFile(ctx, dst, dir, 0o600), ErrNotRegular)
	require.ErrorIs(t, CopyFile(ctx, src, src, 0o600), os.ErrExist)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3, "a refused copy leaves nothing")
}

func TestCopyStopsWhenCancelled(t *testing.T) {
	src, err := os.Open(holey(t))
	require.NoError(t, err)
	defer src.Close()
	dst, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	require.NoError(t, err)
	defer dst.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, copyExtents(ctx, dst, src, 256*mib), context.Canceled)
}

func TestReadIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer func() { _ = root.Close() }()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(at("file"), []byte("12345"), 0o600))
	require.NoError(t, os.Symlink("file", at("link")))
	require.NoError(t, os.Symlink(t.TempDir(), at("away")))
	require.NoError(t, os.Mkdir(at("folder"), 0o700))
	require.NoError(t, unix.Mkfifo(at("pipe"), 0o600))
	b, err := ReadIn(root, "file", 5)
	require.NoError(t, err)
	assert.Equal(t, "12345", string(b))
	for name, want := range map[string]error{
		"none": os.ErrNotExist, "file/none": unix.ENOTDIR, "link": ErrNotRegular, "folder": ErrNotRegular, "pipe": ErrNotRegular, "away/x": nil,
	} {
		_, err := ReadIn(root, name, 5)
		require.Error(t, err, name)
		if want != nil {
			assert.ErrorIs(t, err, want, name)
		}
		assert.Equal(t, want != unix.ENOTDIR && want != nil, Unfit(err), name)
	}
	_, err = ReadIn(root, "file", 4)
	require.ErrorIs(t, err, ErrTooLarge)
	assert.True(t, Unfit(err))
	assert.True(t, Unfit(ErrChanged))
	assert.False(t, Unfit(unix.EIO))
}
