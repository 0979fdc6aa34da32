//go:build linux

package format

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

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

	again := mapped(t, c.memory, size)
	assert.Equal(t, byte(7), again[100<<20])
	again[200<<20] = 9
	second := filepath.Join(t.TempDir(), "two")
	require.NoError(t, Write(t.Context(), second, h, nil, Slices{again}))
	c = open(t, second)
	require.NoError(t, c.Verify(t.Context()))
	page := make([]byte, 1)
	for at, want := range map[int64]byte{0: 7, 100<<20 + PageSize: 7, 200 << 20: 9, 300 << 20: 0, size - 1: 7} {
		_, err := c.memory.ReadAt(page, at)
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
	assert.Equal(t, []Range{{0, size}}, (&pages{private: p.private}).written(b))
}

func TestBased(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	h := header(size, 3*PageSize)
	dir := t.TempDir()
	first := mapped(t, nil, size)
	for _, at := range []int{0, 10 << 20, 10<<20 + PageSize, 20 << 20, 30 << 20, 40<<20 - 1, size - 1} {
		first[at] = 7
	}
	small := make([]byte, 3*PageSize)
	small[PageSize] = 8
	require.NoError(t, Write(t.Context(), filepath.Join(dir, "base"), h, nil, Slices{first, small}))
	first4 := Prefetch{Written: []Range{{0, PageSize}}, Touched: []Range{{0, 4 * PageSize}}}
	require.NoError(t, RecordPrefetch(filepath.Join(dir, "base"), first4))
	base := open(t, filepath.Join(dir, "base"))

	b := mapped(t, base.memory, size)
	require.NoError(t, unix.Madvise(b, unix.MADV_NOHUGEPAGE))
	b[10<<20] = 1   // other than in the base
	b[20<<20] = 0   // zeros again
	b[50<<20+5] = 2 // where the base has a hole
	assert.Equal(t, byte(7), b[40<<20-1], "read only")
	require.NoError(t, remapAnonymous(b[30<<20:31<<20])) // given back to the host
	b[30<<20+8*PageSize] = 3
	small[0] = 9 // a region that is not mapped from the base at all
	before := Resident(b)
	mem := Slices{b, small}

	dst := filepath.Join(dir, "second")
	require.NoError(t, Write(t.Context(), dst, h, []byte("state"), Based{mem, base}))
	assert.Equal(t, before, Resident(b), "nothing is loaded")
	second := open(t, dst)
	require.NoError(t, second.Verify(t.Context()))
	inherited, ok := second.Prefetch()
	assert.True(t, ok)
	assert.Equal(t, first4.Touched, inherited.Touched)
	assert.Empty(t, inherited.Written, "that was for copies of the other one")
	_, _, got := content(t, second)
	assert.True(t, bytes.Equal(b, got[0]), "memory differs")
	assert.Equal(t, small, got[1])
	_, _, old := content(t, base)
	assert.Equal(t, byte(7), old[0][10<<20], "the base stays as it was")
	require.NoError(t, base.Verify(t.Context()))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dst, memoryName), &st))
	assert.Less(t, st.Blocks*512, int64(1<<20), "zeros take no space")

	// A draft whose capture failed can still become a checkpoint.
	again := filepath.Join(dir, "again")
	d, err := Begin(t.Context(), again, base, Lasting)
	require.NoError(t, err)
	require.ErrorIs(t, d.Capture(t.Context(), h, nil, Based{mem, second}), ErrHeader, "of another base")
	require.ErrorIs(t, d.Capture(t.Context(), h, nil, Based{Slices{b, small[1:]}, base}), ErrHeader)
	require.NoError(t, d.Capture(t.Context(), h, []byte("state"), Based{mem, base}))
	require.NoError(t, d.Publish(t.Context()))
	third := open(t, again)
	require.NoError(t, third.Verify(t.Context()))
	_, _, got = content(t, third)
	assert.True(t, bytes.Equal(b, got[0]), "memory differs")
	assert.Equal(t, small, got[1])
	assert.Equal(t, second.machine.sums, third.machine.sums)
	require.NoError(t, os.RemoveAll(again))

	// One that is not based on what it began with has nothing of it.
	d, err = Begin(t.Context(), again, base, Lasting)
	require.NoError(t, err)
	other := header(2 * PageSize)
	require.NoError(t, d.Capture(t.Context(), other, nil, Slices{make([]byte, 2*PageSize)}))
	require.NoError(t, d.Publish(t.Context()))
	fourth := open(t, again)
	require.NoError(t, fourth.Verify(t.Context()))
	_, _, got = content(t, fourth)
	assert.True(t, bytes.Equal(make([]byte, 2*PageSize), got[0]))
	_, ok = fourth.Prefetch()
	assert.False(t, ok)
	require.NoError(t, os.RemoveAll(again))

	d, err = Begin(t.Context(), again, nil, Lasting)
	require.NoError(t, err)
	require.ErrorContains(t, d.Publish(t.Context()), "nothing was captured")
	assert.NoDirExists(t, again)

	// Whoever can tell nothing copies everything, and the same comes out.
	assert.Equal(t, []part{{Range: Range{0, size}}}, (&pages{}).changed(b, 0))
	assert.Len(t, newPagesFor(t, second.memory).changed(b, 0), len(newPagesFor(t, base.memory).changed(b, PageSize)), "another file is as another place in it")

	assert.ErrorIs(t, Write(t.Context(), dst, header(size), nil, Based{Slices{b}, base}), ErrHeader)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, Write(over, dst, h, nil, Based{mem, base}), context.Canceled)
	assertOnly(t, dir, "base", "second")
}

func TestParseMapping(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]mapping{
		"7f0895377000-7f0895379000 rw-p 00001000 fe:1a 9978213                    /tmp/a file": {0x7f0895377000, 0x7f0895379000, fileID{0xfe, 0x1a, 9978213}, 0x1000},
		"00400000-00401000 r--p 00000000 00:00 0 ":                                             {start: 0x400000, end: 0x401000},
		"ffff0000-ffff1000 ---p 00000000 00:00 0":                                              {start: 0xffff0000, end: 0xffff1000},
	} {
		m, ok := parseMapping([]byte(line))
		assert.True(t, ok, line)
		assert.Equal(t, want, m)
	}
	for _, line := range []string{"", "-", "1000-2000 rw-s 00000000 00:01 5 /dev/zero", "1000-2000 rw 0 00:01 5", "1000-2000 rw-p 0 00:01", "1000-2000 rw-p 0 00:01 x", "x-2000 rw-p 0 00:01 5"} {
		_, ok := parseMapping([]byte(line))
		assert.False(t, ok, line)
	}
}

// What stat tells of files on overlayfs, and on btrfs, is not what the kernel tells of mappings.
func TestChangedOnOverlay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	at := filepath.Join(dir, "merged")
	err := unix.Mount("overlay", at, "overlay", 0, fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir))
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENODEV) {
		t.Skip("cannot mount an overlay: ", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(at, unix.MNT_DETACH)) })
	f, err := os.Create(filepath.Join(at, "memory"))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	const size = 16 * PageSize
	_, err = f.Write(bytes.Repeat([]byte{7}, size))
	require.NoError(t, err)
	b := mapped(t, f, size)
	b[3*PageSize] = 1
	assert.Equal(t, []part{{Range: Range{3 * PageSize, PageSize}}}, newPagesFor(t, f).changed(b, 0))
}

func newPagesFor(t *testing.T, base *os.File) *pages {
	p := newPages(base)
	t.Cleanup(p.close)
	return p
}

// remapAnonymous puts zeros in place of whatever is at b.
func remapAnonymous(b []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(&b[0]), uintptr(len(b)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED)
	return err
}
