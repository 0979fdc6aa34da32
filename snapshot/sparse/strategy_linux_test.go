package sparse

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStrategies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(dir, "src"))
	require.NoError(t, err)
	defer src.Close()
	require.NoError(t, src.Truncate(8<<20))
	_, err = src.WriteAt(bytes.Repeat([]byte("x"), 8192), 4<<20)
	require.NoError(t, err)
	want, err := os.ReadFile(src.Name())
	require.NoError(t, err)
	for name, c := range map[string]func(dst *os.File) error{
		"share": func(dst *os.File) error { return Share(dst, src) },
		"copy":  func(dst *os.File) error { return CopyData(t.Context(), dst, src) },
	} {
		dst, err := os.Create(filepath.Join(dir, name))
		require.NoError(t, err)
		defer dst.Close()
		if err := c(dst); name == "share" && err != nil {
			assert.ErrorIs(t, err, ErrCannotShare, "it depends on the file system under the test")
			continue
		} else {
			require.NoError(t, err)
		}
		got, err := os.ReadFile(dst.Name())
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), name)
	}
	pipe, other, err := os.Pipe()
	require.NoError(t, err)
	defer pipe.Close()
	defer other.Close()
	assert.ErrorIs(t, CopyData(t.Context(), src, pipe), ErrNotRegular)
}
