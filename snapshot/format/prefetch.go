package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// prefetchMagic begins the file "prefetch". Then come, in u64 of little-endian, the number of
// ranges that are written to, offset and length of each of them and then of each that is
// touched, and then the SHA-256 of all that precedes.
const prefetchMagic = "gomsbPF2"

// prefetchHeader is how many bytes precede the ranges.
const prefetchHeader = len(prefetchMagic) + 8

// maxRanges is how many ranges the lists may have together.
const maxRanges = (maxSmall - prefetchHeader - sha256.Size) / 16

// Prefetch are the parts of memory that a restored machine touches first. Both lists are
// ascending, and ranges of one do not overlap.
type Prefetch struct {
	Written []Range // are written to
	Touched []Range // are read or written to
}

// Prefetch returns what was recorded; false if that is nothing, or damaged.
func (c *Checkpoint) Prefetch() (Prefetch, bool) {
	b, err := sparse.ReadIn(c.root, prefetchName, maxSmall)
	if err != nil {
		return Prefetch{}, false
	}
	return decodePrefetch(b, c.machine.header.MemorySize())
}

// RecordPrefetch keeps p for the checkpoint at dir. Its lists must not have more than 65533
// ranges together.
func RecordPrefetch(dir string, p Prefetch) error {
	if n := len(p.Written) + len(p.Touched); n > maxRanges {
		return fmt.Errorf("record prefetch list of %s: %d ranges are too many", dir, n)
	}
	return atomicfile.Write(filepath.Join(dir, prefetchName), p.encode(), 0o600)
}

func (p Prefetch) encode() []byte {
	b := binary.LittleEndian.AppendUint64([]byte(prefetchMagic), uint64(len(p.Written)))
	for _, list := range [][]Range{p.Written, p.Touched} {
		for _, r := range list {
			b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, uint64(r.Offset)), uint64(r.Length))
		}
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodePrefetch returns false for what is no prefetch of a memory of that size.
func decodePrefetch(b []byte, size int64) (p Prefetch, ok bool) {
	body := len(b) - sha256.Size
	if body < prefetchHeader || string(b[:len(prefetchMagic)]) != prefetchMagic {
		return p, false
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return p, false
	}
	written := binary.LittleEndian.Uint64(b[len(prefetchMagic):])
	b = b[prefetchHeader:body]
	if len(b)%16 != 0 || written > uint64(len(b)/16) {
		return p, false
	}
	writes, ok := decodeRanges(b[:16*written], uint64(size))
	if !ok {
		return p, false
	}
	touches, ok := decodeRanges(b[16*written:], uint64(size))
	if !ok {
		return p, false
	}
	return Prefetch{writes, touches}, true
}

// decodeRanges returns false for ranges that do not ascend, or overlap, or are beyond size.
func decodeRanges(b []byte, size uint64) ([]Range, bool) {
	list := make([]Range, len(b)/16)
	end := uint64(0)
	for i := range list {
		offset, length := binary.LittleEndian.Uint64(b[16*i:]), binary.LittleEndian.Uint64(b[16*i+8:])
		if offset < end || offset > size || length == 0 || length > size-offset {
			return nil, false
		}
		list[i] = Range{Offset: int64(offset), Length: int64(length)}
		end = offset + length
	}
	return list, true
}
