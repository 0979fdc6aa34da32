package memory_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
)

const page = memory.PageSize

// twoRegions is RAM with a hole between 16 KiB and 1 MiB.
func twoRegions(t *testing.T) *memory.Memory {
	t.Helper()
	m, err := memory.New([]memory.Range{{Base: 0x100000, Size: 2 * page}, {Base: 0, Size: 4 * page}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	return m
}

func TestNewRefusesLayoutsThatCannotBeRAM(t *testing.T) {
	t.Parallel()
	for name, ranges := range map[string][]memory.Range{
		"none":             nil,
		"empty":            {{Base: 0, Size: 0}},
		"unaligned base":   {{Base: 1, Size: page}},
		"unaligned size":   {{Base: 0, Size: page + 1}},
		"wraps around":     {{Base: math.MaxUint64 - page + 1, Size: 2 * page}},
		"ends at 2^64":     {{Base: math.MaxUint64 - 2*page + 1, Size: 4 * page}},
		"overlap":          {{Base: 0, Size: 2 * page}, {Base: page, Size: page}},
		"overlap unsorted": {{Base: page, Size: page}, {Base: 0, Size: 2 * page}},
		"too large":        {{Base: 0, Size: 1 << 47}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := memory.New(ranges)
			assert.ErrorIs(t, err, memory.ErrLayout)
		})
	}
}

func TestRegionsAreSortedAndZero(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	r := m.Regions()
	require.Len(t, r, 2)
	assert.Equal(t, uint64(0), r[0].Base)
	assert.Equal(t, uint64(0x100000), r[1].Base)
	assert.Equal(t, uint64(6*page), m.Size())
	for _, x := range r {
		assert.Len(t, x.Host, int(x.Size))
		assert.Equal(t, make([]byte, x.Size), x.Host)
	}
}

func TestPluggableMemoryIsNotCounted(t *testing.T) {
	t.Parallel()
	m, err := memory.New([]memory.Range{{Base: 0, Size: page}, {Base: 4 * page, Size: 2 * page, Pluggable: true}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	assert.EqualValues(t, page, m.Size())
	assert.Equal(t, []bool{false, true}, []bool{m.Regions()[0].Pluggable, m.Regions()[1].Pluggable})
	_, err = m.Slice(4*page, 2*page)
	assert.NoError(t, err)
}

func TestSliceChecksItsEnd(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	for name, c := range map[string]struct {
		addr, n uint64
		ok      bool
	}{
		"first byte":             {0, 1, true},
		"whole region":           {0, 4 * page, true},
		"last byte":              {4*page - 1, 1, true},
		"one over the end":       {4*page - 1, 2, false},
		"whole region and one":   {0, 4*page + 1, false},
		"empty":                  {0, 0, false},
		"in the hole":            {4 * page, 1, false},
		"before the second":      {0x100000 - 1, 2, false},
		"second":                 {0x100000, 2 * page, true},
		"after the second":       {0x100000 + 2*page, 1, false},
		"length wraps":           {page, math.MaxUint64, false},
		"address plus length":    {math.MaxUint64, 2, false},
		"length to address zero": {0x100000 + page, math.MaxUint64 - 0x100000 - page + 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := m.Slice(c.addr, c.n)
			if !c.ok {
				assert.ErrorIs(t, err, memory.ErrOutOfRange)
				return
			}
			require.NoError(t, err)
			assert.Len(t, b, int(c.n))
			assert.Equal(t, len(b), cap(b), "appending must not reach the bytes behind")
		})
	}
}

func TestReadWrite(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	require.NoError(t, m.WriteAt([]byte("abcd"), 2*page-2))
	got := make([]byte, 4)
	require.NoError(t, m.ReadAt(got, 2*page-2))
	assert.Equal(t, "abcd", string(got))
	assert.ErrorIs(t, m.WriteAt(got, 4*page-2), memory.ErrOutOfRange)
	assert.ErrorIs(t, m.ReadAt(got, 4*page-2), memory.ErrOutOfRange)
	assert.NoError(t, m.ReadAt(nil, math.MaxUint64), "nothing to read is never out of range")
	assert.NoError(t, m.WriteAt(nil, math.MaxUint64))

	tail, err := m.Slice(4*page-2, 2)
	require.NoError(t, err)
	assert.Equal(t, []byte{0, 0}, tail, "a refused write must not be half done")
}

func TestWords(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	require.NoError(t, m.StoreUint32(8, 0x11223344))
	v, err := m.LoadUint32(8)
	require.NoError(t, err)
	assert.Equal(t, uint32(0x11223344), v)
	b, err := m.Slice(8, 4)
	require.NoError(t, err)
	assert.Equal(t, []byte{0x44, 0x33, 0x22, 0x11}, b)

	for _, addr := range []uint64{1, 2, 3, 4*page - 2, 4 * page, math.MaxUint64 - 3, math.MaxUint64} {
		_, err := m.LoadUint32(addr)
		assert.ErrorIs(t, err, memory.ErrOutOfRange, "%#x", addr)
		assert.ErrorIs(t, m.StoreUint32(addr, 1), memory.ErrOutOfRange, "%#x", addr)
	}
	w, err := m.Word(0x100000)
	require.NoError(t, err)
	w.Store(7)
	assert.Equal(t, uint32(7), w.Load())
}

func TestDiscardGivesZeros(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	require.NoError(t, m.WriteAt([]byte{1}, page))
	require.NoError(t, m.WriteAt([]byte{2}, 2*page))
	require.NoError(t, m.Discard(page, page))
	b := make([]byte, 1)
	require.NoError(t, m.ReadAt(b, page))
	assert.Equal(t, byte(0), b[0])
	require.NoError(t, m.ReadAt(b, 2*page))
	assert.Equal(t, byte(2), b[0], "the next page must stay")
	for _, bad := range [][2]uint64{{1, page}, {0, 1}, {3 * page, 2 * page}, {0x80000, page}, {0, 0}} {
		assert.ErrorIs(t, m.Discard(bad[0], bad[1]), memory.ErrOutOfRange, "%#x", bad)
	}
}

func TestAccessDoesNotAllocate(t *testing.T) {
	m := twoRegions(t)
	p := make([]byte, 16)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = m.Slice(0x100000, page)
		_, _ = m.Slice(math.MaxUint64, 4)
		_ = m.ReadAt(p, 0)
		_ = m.WriteAt(p, 0)
		_, _ = m.LoadUint32(4)
		_ = m.StoreUint32(4, 1)
	}))
}

func TestCloseIsIdempotent(t *testing.T) {
	t.Parallel()
	m, err := memory.New([]memory.Range{{Base: 0, Size: page}})
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err = m.Slice(0, 1)
	assert.ErrorIs(t, err, memory.ErrOutOfRange)
}

func tempFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "memory")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}
