package layer

import (
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSparse reads sparse files in all the forms that GNU tar writes.
func TestSparse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := filepath.Join(dir, "sparse")
	f, err := os.Create(at)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(3<<20))
	for _, off := range []int64{0, 1 << 20, 2<<20 + 12345} {
		_, err := f.WriteAt([]byte(strings.Repeat("data", 2000)), off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	want, err := os.ReadFile(at)
	require.NoError(t, err)
	for _, format := range []string{"--format=gnu", "--format=pax --sparse-version=0.0", "--format=pax --sparse-version=0.1", "--format=pax --sparse-version=1.0"} {
		args := append([]string{"-C", dir, "--sparse", "-c"}, strings.Fields(format)...)
		raw, err := exec.CommandContext(t.Context(), "tar", append(args, "sparse")...).Output()
		require.NoError(t, err)
		assert.Less(t, len(raw), 1<<20, "tar saw no holes")
		l, err := read(t, raw, DefaultLimits())
		require.NoError(t, err, format)
		node := l.Tree.Lookup("sparse")
		require.NotNil(t, node, format)
		assert.EqualValues(t, len(want), node.Size)
		h := sha256.New()
		_, err = io.Copy(h, node.Reader())
		require.NoError(t, err)
		sum := sha256.Sum256(want)
		assert.Equal(t, sum[:], h.Sum(nil), format)
	}
}

// TestSparseBomb: an archive of a few KiB that claims 8 TiB is refused by its claim.
func TestSparseBomb(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "bomb"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(8<<40))
	require.NoError(t, f.Close())
	raw, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "--sparse", "--format=pax", "-c", "bomb").Output()
	require.NoError(t, err)
	_, err = read(t, raw, DefaultLimits())
	assert.ErrorIs(t, err, ErrLimit)
}
