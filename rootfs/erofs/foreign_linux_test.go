package erofs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestReaderReadsMkfs reads an image another program made, with its compact inodes,
// shared xattrs and inline tails of files.
func TestReaderReadsMkfs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, image := filepath.Join(dir, "root"), filepath.Join(dir, "image")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sub"), 0o750))
	for _, name := range []string{"a", "b", "c", "sub/d"} {
		at := filepath.Join(root, name)
		require.NoError(t, os.WriteFile(at, []byte(strings.Repeat(name, 3000)), 0o640))
		require.NoError(t, unix.Setxattr(at, "user.same", []byte("shared value"), 0))
	}
	require.NoError(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "sub", "hard")))
	require.NoError(t, os.Symlink("sub/d", filepath.Join(root, "link")))
	run(t, "mkfs.erofs", "-x1", image, root)
	raw, err := os.ReadFile(image)
	require.NoError(t, err)
	got := flatten(t, reread(t, raw))
	assert.Len(t, got, 8)
	assert.Equal(t, strings.Repeat("sub/d", 3000), got["/sub/d"].Content)
	assert.Equal(t, "/a", got["/sub/hard"].Twin)
	assert.Equal(t, "sub/d", got["/link"].Node.Target)
	assert.EqualValues(t, 0o40750, got["/sub"].Node.Mode)
	b := got["/b"].Node
	value, ok := b.Xattr("user.same")
	assert.True(t, ok)
	assert.Equal(t, "shared value", string(value))
}
