package format

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func mapped(t *testing.T, f *os.File, n int) []byte {
	t.Helper()
	fd, flags := -1, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE
	if f != nil {
		fd, flags = int(f.Fd()), unix.MAP_PRIVATE
	}
	b, err := unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, flags)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

func TestUntouchedPagesStayUntouched(t *testing.T) {
	t.Parallel()
	const size = 512 << 20
	h := header(size)
	b := mapped(t, nil, size)
	require.NoError(t, unix.Madvise(b, unix.MADV_NOHUGEPAGE))
	for _, at := range []int{0, 100 << 20, 100<<20 + PageSize, size - 1} {
		b[at] = 7
	}
	before := Resident(b)
	assert.Equal(t, []Range{{0, PageSize}, {100 << 20, 2 * PageSize}, {size - PageSize, PageSize}}, before)
	dir := filepath.Join(t.TempDir(), "one")
	require.NoError(t, Write(t.Context(), dir, h, nil, Slices{b}))
	assert.Equal(t, before, Resident(b), "a capture reads nothing that nobody has written")
	c := open(t, dir)
	require.NoError(t, c.Verify(t.Context()))

	again := mapped(t, c.MemoryFile(), size)
	assert.Equal(t, byte(7), again[100<<20])
	again[200<<20] = 9
	second := filepath.Join(t.TempDir(), "two")
	require.NoError(t, Write(t.Context(), second, h, nil, Slices{again}))
	c = open(t, second)
	require.NoError(t, c.Verify(t.Context()))
	page := make([]byte, 1)
	for at, want := range map[int64]byte{0: 7, 100<<20 + PageSize: 7, 200 << 20: 9, 300 << 20: 0, size - 1: 7} {
		_, err := c.MemoryFile().ReadAt(page, at)
		require.NoError(t, err)
		assert.Equal(t, want, page[0], "pages that a file is behind are not zeros because nobody touched them: %d", at)
	}
}

func TestWritten(t *testing.T) {
	t.Parallel()
	const size = 64 * PageSize
	b := mapped(t, nil, size)
	require.NoError(t, unix.Madvise(b, unix.MADV_NOHUGEPAGE))
	b[5*PageSize] = 1
	p := newPages()
	defer p.close()
	assert.Equal(t, []Range{{5 * PageSize, PageSize}}, p.written(b))
	assert.Equal(t, []Range{{PageSize, PageSize}}, p.written(b[4*PageSize:8*PageSize]))
	assert.Empty(t, p.written(b[6*PageSize:]))
	assert.Equal(t, []Range{{0, size}}, (&pages{}).written(b), "whoever knows nothing takes everything")
	assert.Equal(t, []Range{{0, size}}, (&pages{anonymous: p.anonymous}).written(b))
}
