package atomicfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	check := func(want string, perm os.FileMode) {
		t.Helper()
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, perm, info.Mode().Perm())
	}
	require.NoError(t, Write(path, []byte("new"), 0o600))
	check("new", 0o600)
	require.NoError(t, os.Chmod(path, 0o640))
	require.NoError(t, Write(path, []byte("changed"), 0o600))
	check("changed", 0o640)
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("file", link))
	require.NoError(t, Write(link, []byte("through a link"), 0o600))
	check("through a link", 0o640)
	info, err := os.Lstat(link)
	require.NoError(t, err)
	assert.Equal(t, os.ModeSymlink, info.Mode().Type())

	assert.ErrorIs(t, Write(filepath.Join(dir, "none", "file"), nil, 0o600), os.ErrNotExist)
	assert.Error(t, Write(dir, []byte("x"), 0o600), "a directory is no file")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 2, "nothing temporary remains")
}
