package record

import (
	"encoding/binary"
	"errors"
)

// Record is one round of a worker.
type Record struct {
	Began int64    // monotonic clock when it began, ns since the program's start
	Value [16]byte // that the kernel gave
	Wall  int64    // wall clock after that, ns since 1970
}

// Size is how many bytes a record has in a file: its fields in order, little-endian.
const Size = 8 + 16 + 8

// ErrSize reports a file that ends within a record.
var ErrSize = errors.New("not a whole number of records")

// Append appends r to b.
func Append(b []byte, r *Record) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Began))
	b = append(b, r.Value[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(r.Wall))
}

// Parse is the inverse of any number of Appends. Its error is ErrSize.
func Parse(b []byte) ([]Record, error) {
	if len(b)%Size != 0 {
		return nil, ErrSize
	}
	all := make([]Record, 0, len(b)/Size)
	for ; len(b) > 0; b = b[Size:] {
		r := Record{Began: int64(binary.LittleEndian.Uint64(b)), Wall: int64(binary.LittleEndian.Uint64(b[24:]))}
		copy(r.Value[:], b[8:])
		all = append(all, r)
	}
	return all, nil
}
