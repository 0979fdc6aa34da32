package mem

import (
	"iter"
	"math/bits"
)

// blocks is a set of blocks, one bit each.
type blocks struct {
	words []uint64
	size  uint64 // blocks
}

func newBlocks(n uint64) blocks { return blocks{make([]uint64, (n+63)/64), n} }

// span is the bits of word w that stand for blocks first to first+n.
func span(w, first, n uint64) uint64 {
	from, to := max(first, 64*w)-64*w, min(first+n, 64*w+64)-64*w
	return ^uint64(0) >> (64 - (to - from)) << from
}

// count is how many of n blocks from first on are in the set, n > 0.
func (b *blocks) count(first, n uint64) (sum uint64) {
	for w := first / 64; w <= (first+n-1)/64; w++ {
		sum += uint64(bits.OnesCount64(b.words[w] & span(w, first, n)))
	}
	return sum
}

// set puts n blocks from first on into the set or takes them out, n > 0.
func (b *blocks) set(first, n uint64, in bool) {
	for w := first / 64; w <= (first+n-1)/64; w++ {
		if in {
			b.words[w] |= span(w, first, n)
		} else {
			b.words[w] &^= span(w, first, n)
		}
	}
}

// runs yields each run of blocks in the set: the first and how many.
func (b *blocks) runs() iter.Seq2[uint64, uint64] {
	return func(yield func(first, n uint64) bool) {
		for at := uint64(0); ; {
			first := b.next(at, true)
			if first == b.size {
				return
			}
			at = b.next(first, false)
			if !yield(first, at-first) {
				return
			}
		}
	}
}

// next is the first block from at on that is in the set, or is not; b.size if there is
// none.
func (b *blocks) next(at uint64, in bool) uint64 {
	for at < b.size {
		v := b.words[at/64]
		if !in {
			v = ^v
		}
		if v = v >> (at % 64); v != 0 {
			return min(at+uint64(bits.TrailingZeros64(v)), b.size)
		}
		at = at/64*64 + 64
	}
	return b.size
}
