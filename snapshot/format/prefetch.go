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

// prefetchMagic begins the file "prefetch". Then come offset and length of each range as
// u64 in little-endian, then the SHA-256 of all that precedes.
const prefetchMagic = "gomsbPF1"

// maxRanges is how many ranges a prefetch list may have.
const maxRanges = (maxSmall - len(prefetchMagic) - sha256.Size) / 16

// Prefetch returns which parts of memory a restored machine touches first: ascending,
// not overlapping. There are none if nobody recorded them, or if they are damaged.
func (c *Checkpoint) Prefetch() []Range {
	b, err := sparse.ReadIn(c.root, prefetchName, maxSmall)
	if err != nil {
		return nil
	}
	return decodePrefetch(b, c.machine.header.MemorySize())
}

// RecordPrefetch keeps a list for the checkpoint at dir: ascending, not overlapping, at
// most 65533 ranges.
func RecordPrefetch(dir string, ranges []Range) error {
	if len(ranges) > maxRanges {
		return fmt.Errorf("record prefetch list of %s: %d ranges are too many", dir, len(ranges))
	}
	b := []byte(prefetchMagic)
	for _, r := range ranges {
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, uint64(r.Offset)), uint64(r.Length))
	}
	sum := sha256.Sum256(b)
	return atomicfile.Write(filepath.Join(dir, prefetchName), append(b, sum[:]...), 0o600)
}

// decodePrefetch returns nil for what is no list of a memory of that size.
func decodePrefetch(b []byte, size int64) []Range {
	body := len(b) - sha256.Size
	if body < len(prefetchMagic) || string(b[:len(prefetchMagic)]) != prefetchMagic {
		return nil
	}
	if sum := sha256.Sum256(b[:body]); !bytes.Equal(sum[:], b[body:]) {
		return nil
	}
	b = b[len(prefetchMagic):body]
	if len(b)%16 != 0 {
		return nil
	}
	ranges := make([]Range, len(b)/16)
	end := uint64(0)
	for i := range ranges {
		offset, length := binary.LittleEndian.Uint64(b[16*i:]), binary.LittleEndian.Uint64(b[16*i+8:])
		if offset < end || offset > uint64(size) || length == 0 || length > uint64(size)-offset {
			return nil
		}
		ranges[i] = Range{Offset: int64(offset), Length: int64(length)}
		end = offset + length
	}
	return ranges
}
