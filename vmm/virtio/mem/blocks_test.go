package mem

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestBlocks compares the set with a plain list, for all ranges around the ends of words.
func TestBlocks(t *testing.T) {
	t.Parallel()
	const size = 131
	for first := range uint64(size) {
		for _, n := range []uint64{1, 2, 63, 64, 65, 128, size} {
			if first+n > size {
				continue
			}
			b := newBlocks(size)
			b.set(first, n, true)
			for at := range uint64(size) {
				in := at >= first && at < first+n
				want := uint64(0)
				if in {
					want = 1
				}
				assert.Equal(t, want, b.count(at, 1), "block %d of %d from %d", at, n, first)
			}
			assert.Equal(t, n, b.count(0, size))
			for f, l := range b.runs() {
				assert.Equal(t, [2]uint64{first, n}, [2]uint64{f, l})
			}
			b.set(0, size, true)
			b.set(first, n, false)
			assert.Equal(t, size-n, b.count(0, size))
			var left uint64
			for f, l := range b.runs() {
				assert.True(t, f+l <= first || f >= first+n)
				left += l
			}
			assert.Equal(t, size-n, left)
		}
	}
}
