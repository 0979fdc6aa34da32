//go:build linux

package image

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The committed image is what the sources of today build.
func TestEmbeddedIsCurrent(t *testing.T) {
	t.Parallel()
	fresh := filepath.Join(t.TempDir(), "agent.erofs")
	cmd := exec.Command(filepath.Join("..", "..", "hack", "agent", "build.sh"), fresh)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	content, err := os.ReadFile(fresh)
	require.NoError(t, err)
	assert.Equal(t, SHA256, fmt.Sprintf("%x", sha256.Sum256(content)), "the guest agent changed: run `make agent`")
	assert.EqualValues(t, Size, len(content))
}

// The embedded image is EROFS, at most 6 MiB, and unpacks.
func TestEmbeddedOpens(t *testing.T) {
	t.Parallel()
	path, err := Open(t.TempDir())
	require.NoError(t, err)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(content), 6<<20)
	const superblock = 1024
	assert.True(t, bytes.HasPrefix(content[superblock:], []byte{0xe2, 0xe1, 0xf5, 0xe0}), "the magic number of EROFS")
}
