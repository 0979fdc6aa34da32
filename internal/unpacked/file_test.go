package unpacked

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStoreAndOpen(t *testing.T) {
	t.Parallel()
	f := File{Dir: filepath.Join(t.TempDir(), "a", "b"), Name: "x", Size: 5}
	_, err := f.Open()
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, content := range []string{"first", "again"} {
		require.NoError(t, f.Store([]byte(content)))
		file, err := f.Open()
		require.NoError(t, err)
		got, err := io.ReadAll(file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		assert.Equal(t, content, string(got))
	}
	entries, err := os.ReadDir(f.Dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
	require.NoError(t, f.Store([]byte("too long")))
	_, err = f.Open()
	require.ErrorIs(t, err, ErrDamaged)
}

func TestStoreReplacesALink(t *testing.T) {
	t.Parallel()
	f := File{Dir: t.TempDir(), Name: "x", Size: 1}
	elsewhere := filepath.Join(t.TempDir(), "y")
	require.NoError(t, os.Symlink(elsewhere, f.Path()))
	_, err := f.Open()
	require.ErrorIs(t, err, ErrUnsafe)
	require.NoError(t, f.Store([]byte("1")))
	assert.NoFileExists(t, elsewhere)
}

// No test can count on being root, who alone can give files to others.
func TestOwnedBy(t *testing.T) {
	t.Parallel()
	st, err := os.Stat(t.TempDir())
	require.NoError(t, err)
	assert.True(t, ownedBy(st, os.Geteuid()))
	assert.False(t, ownedBy(st, os.Geteuid()+1))
	assert.False(t, ownedBy(st, -1))
}
