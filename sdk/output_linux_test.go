package microsandbox

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestWriteOutput writes files that appear when they are complete, and clears away what
// killed writers left, nothing else.
func TestWriteOutput(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	names := func() (all []string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	old := time.Now().Add(-time.Hour)
	stays := []string{".other.01234567.msb-part", ".out.01234567", ".out.0123456.msb-part", ".out.89abcdef.msb-part"}
	for _, name := range append(stays, ".out.01234567.msb-part") {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
	}
	busy, err := os.Open(filepath.Join(dir, ".out.89abcdef.msb-part"))
	require.NoError(t, err)
	defer busy.Close()
	require.NoError(t, unix.Flock(int(busy.Fd()), unix.LOCK_EX))

	failure := errors.New("half way")
	err = writeOutput(path, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		require.NoError(t, err)
		assert.NoFileExists(t, path)
		return failure
	})
	require.ErrorIs(t, err, failure)
	assert.ElementsMatch(t, stays, names())
	for _, text := range []string{"one", "another"} {
		require.NoError(t, writeOutput(path, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, text, string(got))
	}
	assert.ElementsMatch(t, append(stays, "out"), names())
	assert.True(t, IsKind(writeOutput(filepath.Join(dir, "no", "dir"), func(io.Writer) error { return nil }), ErrIO))
}
