package microsandbox

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRemoveDataRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "data")
	t.Setenv("MSB_HOME", root)
	r, err := RemoveDataRoot(context.Background())
	require.NoError(t, err)
	assert.Equal(t, &UninstallReport{Root: root, Nothing: true}, r)

	for _, name := range []string{"cache/layers", "db", "sandboxes/a", "mine"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, name), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "config.json"), []byte("not JSON"), 0o600))
	r, err = RemoveDataRoot(context.Background())
	require.NoError(t, err)
	assert.Equal(t, &UninstallReport{Root: root, Kept: []string{"mine"}}, r)
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
	r, err = RemoveDataRoot(context.Background())
	require.NoError(t, err)
	assert.Equal(t, &UninstallReport{Root: root, Nothing: true, Kept: []string{"mine"}}, r)

	require.NoError(t, os.Remove(filepath.Join(root, "mine")))
	r, err = RemoveDataRoot(context.Background())
	require.NoError(t, err)
	assert.Equal(t, &UninstallReport{Root: root}, r)
	assert.NoDirExists(t, root)
}

// TestRemoveHomeDirectory: of no user's files is anything removed.
func TestRemoveHomeDirectory(t *testing.T) {
	user := t.TempDir()
	t.Setenv("HOME", user)
	bin := filepath.Join(user, "bin")
	require.NoError(t, os.Mkdir(bin, 0o700))
	for _, root := range []string{user, filepath.Dir(user), "/"} {
		t.Setenv("MSB_HOME", root)
		_, err := RemoveDataRoot(context.Background())
		assert.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", root, err)
	}
	assert.DirExists(t, bin)
}
