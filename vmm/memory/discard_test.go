package memory_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
)

func TestDiscardSliceKeepsPartsOfPages(t *testing.T) {
	t.Parallel()
	m := twoRegions(t)
	b, err := m.Slice(0, 4*page)
	require.NoError(t, err)
	for _, c := range []struct {
		from, to   int // of what is discarded
		zero, kept []int
	}{
		{0, 4 * page, []int{0, page, 4*page - 1}, nil},
		{1, 4*page - 1, []int{page, 3*page - 1}, []int{0, page - 1, 3 * page, 4*page - 1}},
		{page - 1, 2*page + 1, []int{page, 2*page - 1}, []int{page - 1, 2 * page}},
		{page, 2*page - 1, nil, []int{page, 2*page - 1}},
		{page + 1, page + 2, nil, []int{page, page + 1, page + 2}},
		{page, page, nil, []int{page}},
	} {
		for i := range b {
			b[i] = 7
		}
		require.NoError(t, m.DiscardSlice(b[c.from:c.to]))
		for _, i := range c.zero {
			assert.Zero(t, b[i], "byte %d after %d to %d", i, c.from, c.to)
		}
		for _, i := range c.kept {
			assert.EqualValues(t, 7, b[i], "byte %d after %d to %d", i, c.from, c.to)
		}
	}
	second, err := m.Slice(0x100000, 2*page)
	require.NoError(t, err)
	second[page] = 7
	require.NoError(t, m.DiscardSlice(second))
	assert.Zero(t, second[page])

	for _, foreign := range [][]byte{nil, make([]byte, 2*page)} {
		assert.ErrorIs(t, m.DiscardSlice(foreign), memory.ErrOutOfRange)
	}
}
