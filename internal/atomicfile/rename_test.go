package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRename(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	holds := func(name, want string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(dir, name, "file"))
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.Mkdir(at(name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "file"), []byte(name), 0o600))
	}
	assert.ErrorIs(t, Rename(at("a"), at("b"), false), fs.ErrExist)
	holds("a", "a")
	holds("b", "b")
	require.NoError(t, Rename(at("a"), at("b"), true))
	holds("a", "b")
	holds("b", "a")
	require.NoError(t, Rename(at("a"), at("new"), true), "nothing is there to replace")
	holds("new", "b")
	require.NoError(t, Move(at("new"), at("newer"), false))
	holds("newer", "b")
	require.NoError(t, os.Mkdir(at("taken"), 0o700))
	assert.ErrorIs(t, Move(at("newer"), at("taken"), false), fs.ErrExist)
	assert.ErrorIs(t, Rename(at("none"), at("x"), false), fs.ErrNotExist)
	assert.ErrorIs(t, Rename(at("newer"), filepath.Join(dir, "none", "x"), true), fs.ErrNotExist)
	holds("newer", "b")
}
