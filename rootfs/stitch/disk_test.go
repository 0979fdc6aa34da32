package stitch

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var want []byte
	var extents []Extent
	for i, size := range []int{512, 4096, 1024} {
		content := bytes.Repeat([]byte{byte('a' + i)}, size)
		path := filepath.Join(dir, string(rune('a'+i)))
		require.NoError(t, os.WriteFile(path, content, 0o600))
		want = append(want, content...)
		extents = append(extents, Extent{path, int64(size)})
	}
	extents = append(extents, extents[0])
	want = append(want, want[:512]...)
	text, err := Descriptor(extents)
	require.NoError(t, err)
	vmdk := filepath.Join(dir, "disk.vmdk")
	require.NoError(t, os.WriteFile(vmdk, text, 0o600))
	d, err := Open(vmdk)
	require.NoError(t, err)
	assert.Equal(t, int64(len(want)), d.Size())
	require.NoError(t, iotest.TestReader(io.NewSectionReader(d, 0, d.Size()), want))
	n, err := d.ReadAt(make([]byte, 1024), d.Size()-512)
	assert.Equal(t, 512, n)
	assert.ErrorIs(t, err, io.EOF)
	_, err = d.ReadAt(make([]byte, 1), -1)
	assert.Error(t, err)

	require.NoError(t, os.Truncate(extents[1].Path, 100))
	_, err = d.ReadAt(make([]byte, 4096), 0)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, d.Close())
	_, err = Open(vmdk)
	assert.ErrorIs(t, err, ErrDescriptor, "the descriptor is not true any more")
	require.NoError(t, os.Remove(extents[1].Path))
	_, err = Open(vmdk)
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(extents[0].Path)
	assert.ErrorIs(t, err, ErrDescriptor)
	_, err = Open(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}
