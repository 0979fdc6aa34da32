package format

import (
	"hash/crc32"
	"sync"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli) // processors compute it
	zeros      [chunkSize]byte
	// zeroSum is of a whole chunk of zeros. Who takes it when the program starts makes
	// every program wait for the page faults of a chunk.
	zeroSum = sync.OnceValue(func() uint32 { return crc32.Checksum(zeros[:], castagnoli) })
)

// isZero reports that b, at most a chunk, holds zeros only.
func isZero(b []byte) bool { return string(b) == string(zeros[:len(b)]) }

// checksum is that of a chunk. One of zeros, if b is zeros itself, is known.
func checksum(b []byte) uint32 {
	if len(b) == chunkSize && &b[0] == &zeros[0] {
		return zeroSum()
	}
	return crc32.Checksum(b, castagnoli)
}

// summer computes the checksums of memory that comes in pieces of any size; nil computes none.
type summer struct {
	sums []uint32 // of whole chunks
	sum  uint32   // of the one that is not whole yet
	n    int      // its bytes
}

func (s *summer) add(b []byte) {
	if s == nil {
		return
	}
	for len(b) > 0 {
		k := min(len(b), chunkSize-s.n)
		s.sum = crc32.Update(s.sum, castagnoli, b[:k])
		s.advance(k)
		b = b[k:]
	}
}

// addZeros is add of n zeros.
func (s *summer) addZeros(n int64) {
	if s == nil {
		return
	}
	for n > 0 {
		k := int(min(n, int64(chunkSize-s.n)))
		if k == chunkSize {
			s.sum = zeroSum()
		} else {
			s.sum = crc32.Update(s.sum, castagnoli, zeros[:k])
		}
		s.advance(k)
		n -= int64(k)
	}
}

func (s *summer) advance(k int) {
	if s.n += k; s.n == chunkSize {
		s.sums, s.sum, s.n = append(s.sums, s.sum), 0, 0
	}
}

// finish returns the checksums of all chunks, also of a last one that is not whole.
func (s *summer) finish() []uint32 {
	if s == nil {
		return nil
	}
	if s.n > 0 {
		s.sums, s.sum, s.n = append(s.sums, s.sum), 0, 0
	}
	return s.sums
}
