package checkpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Sum is the checksum of a file: a CRC-32C over each block that is not all zeros, each after
// its number as a u64 in little-endian. It does not tell holes from zeros.
type Sum uint32

// sumBlock is the size of a block, in bytes.
const sumBlock = 64 << 10

// MarshalText writes the sum in hexadecimal.
func (s Sum) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%08x", uint32(s)), nil }

// UnmarshalText reads a sum.
func (s *Sum) UnmarshalText(b []byte) error {
	var v [4]byte
	if n, err := hex.Decode(v[:], b[:min(len(b), 8)]); err != nil || n != len(v) || len(b) != 8 || !bytes.Equal(bytes.ToLower(b), b) {
		return fmt.Errorf("checksum %.40q", b)
	}
	*s = Sum(binary.BigEndian.Uint32(v[:]))
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf reads a file of size bytes. It moves the file's position.
func sumOf(ctx context.Context, f *os.File, size int64) (Sum, error) {
	sum, buf, zeros := uint32(0), make([]byte, sumBlock), make([]byte, sumBlock)
	var number [8]byte
	data := sparse.Extent{}
	for at := int64(0); at < size; at += sumBlock {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if data.End() <= at {
			var err error
			if data, err = nextData(f, at, size); err != nil {
				return 0, err
			}
			if data.Length == 0 {
				break
			}
		}
		if at+sumBlock <= data.Offset {
			at = data.Offset/sumBlock*sumBlock - sumBlock
			continue
		}
		b := buf[:min(sumBlock, size-at)]
		if _, err := f.ReadAt(b, at); err != nil {
			if errors.Is(err, io.EOF) {
				err = sparse.ErrChanged
			}
			return 0, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		if bytes.Equal(b, zeros[:len(b)]) {
			continue
		}
		binary.LittleEndian.PutUint64(number[:], uint64(at/sumBlock))
		sum = crc32.Update(crc32.Update(sum, castagnoli, number[:]), castagnoli, b)
	}
	return Sum(sum), nil
}

// nextData is the next data of f; where holes cannot be told, all is data.
func nextData(f *os.File, at, size int64) (sparse.Extent, error) {
	e, err := sparse.Next(f, at, size)
	if errors.Is(err, sparse.ErrUnsupported) {
		return sparse.Extent{Offset: at, Length: size - at}, nil
	}
	return e, err
}
