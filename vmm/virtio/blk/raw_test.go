package blk

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestOpenRawRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for _, readOnly := range []bool{false, true} {
		_, err := OpenRaw(filepath.Join(dir, "none"), readOnly)
		assert.ErrorIs(t, err, os.ErrNotExist)
		_, err = OpenRaw(image(t, nil), readOnly)
		assert.ErrorIs(t, err, ErrImage, "empty")
		_, err = OpenRaw(image(t, make([]byte, 511)), readOnly)
		assert.ErrorIs(t, err, ErrImage, "less than a sector")
		_, err = OpenRaw("/dev/null", readOnly)
		assert.ErrorIs(t, err, ErrImage, "character device")
	}
	_, err := OpenRaw(dir, true)
	assert.ErrorIs(t, err, ErrImage, "directory")
	_, err = OpenRaw(fifo, true)
	assert.ErrorIs(t, err, ErrImage, "named pipe, without waiting for its other end")
}

func TestRawLeavesOutAPartOfASector(t *testing.T) {
	t.Parallel()
	path := image(t, noise(3*SectorSize+100))
	g := newGuest(t, openRaw(t, path, false), virtiotest.Config{})
	assert.EqualValues(t, 3*SectorSize, g.dev.size)
	s, _ := g.do(kindRead, 3, in(0, 512))
	assert.Equal(t, statusIOError, s)
	g.write(2, make([]byte, 512))
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, noise(3*SectorSize + 100)[3*SectorSize:], file[3*SectorSize:])
}

// TestRawIsNeverGuessed at: an image that looks like qcow2 stays raw (N56).
func TestRawIsNeverGuessed(t *testing.T) {
	t.Parallel()
	content := make([]byte, 8*SectorSize)
	copy(content, "QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x68\x00\x00\x00\x0b")
	copy(content[0x68:], "/etc/shadow")
	g := newGuest(t, openRaw(t, image(t, content), false), virtiotest.Config{})
	assert.Equal(t, content, g.read(0, len(content)))
}

func TestReadOnlyRaw(t *testing.T) {
	t.Parallel()
	path := image(t, noise(4096))
	require.NoError(t, os.Chmod(path, 0o400))
	b := openRaw(t, path, true)
	assert.True(t, b.ReadOnly())
	assert.ErrorIs(t, b.WriteV(0, [][]byte{make([]byte, 512)}), ErrReadOnly)
	assert.ErrorIs(t, b.Discard(0, 512), ErrReadOnly)
	assert.ErrorIs(t, b.WriteZeroes(0, 512, true), ErrReadOnly)
	assert.NoError(t, b.Flush())
}

// TestFileIsTruncatedUnderTheGuest gives I/O errors (N53), and works again when the file
// is as long as it was.
func TestFileIsTruncatedUnderTheGuest(t *testing.T) {
	t.Parallel()
	path := image(t, noise(64*SectorSize))
	g := newGuest(t, openRaw(t, path, true), virtiotest.Config{})
	assert.Equal(t, noise(64*SectorSize), g.read(0, 64*SectorSize))
	require.NoError(t, os.Truncate(path, 10*SectorSize+100))
	for _, sector := range []uint64{10, 11, 63} {
		s, n := g.do(kindRead, sector, in(0, 512))
		assert.Equal(t, statusIOError, s, "sector %d", sector)
		assert.Zero(t, n)
	}
	s, _ := g.do(kindRead, 0, in(0, 64*SectorSize))
	assert.Equal(t, statusIOError, s)
	assert.Equal(t, noise(64 * SectorSize)[:10*SectorSize], g.read(0, 10*SectorSize))
	require.NoError(t, os.Truncate(path, 64*SectorSize))
	assert.Equal(t, make([]byte, 512), g.read(63, 512))
}

func TestFileIsTruncatedUnderAWriter(t *testing.T) {
	t.Parallel()
	path := image(t, noise(64*SectorSize))
	b := openRaw(t, path, false)
	require.NoError(t, os.Truncate(path, 0))
	assert.ErrorIs(t, b.ReadV(0, [][]byte{make([]byte, 512)}), io.ErrUnexpectedEOF)
	require.NoError(t, b.WriteV(0, [][]byte{noise(512)}))
	got := make([]byte, 512)
	require.NoError(t, b.ReadV(0, [][]byte{got}))
	assert.Equal(t, noise(512), got)
}

// TestZeroesTheSlowWay is what happens on file systems without fallocate(2).
func TestZeroesTheSlowWay(t *testing.T) {
	t.Parallel()
	content := noise(1000 * SectorSize)
	path := image(t, content)
	b, err := OpenRaw(path, false)
	require.NoError(t, err)
	require.NoError(t, b.(*raw).writeZeroes(3*SectorSize, 900*SectorSize))
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	clear(content[3*SectorSize : 903*SectorSize])
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, file))
}
