package memory_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
)

func TestWord64(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	require.NoError(t, m.WriteAt([]byte{8, 7, 6, 5, 4, 3, 2, 1}, 0x100008))
	w, err := m.Word64(0x100008)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x0102030405060708), w.Load())
	assert.False(t, w.CompareAndSwap(1, 2))
	assert.True(t, w.CompareAndSwap(0x0102030405060708, 9))
	b, err := m.Slice(0x100008, 8)
	require.NoError(t, err)
	assert.Equal(t, []byte{9, 0, 0, 0, 0, 0, 0, 0}, b)
	for _, addr := range []uint64{4, 1, 4*page - 4, 4 * page, math.MaxUint64 - 7, math.MaxUint64} {
		_, err := m.Word64(addr)
		assert.ErrorIs(t, err, memory.ErrOutOfRange, "%#x", addr)
	}
}
