package blk

import "encoding/binary"

const (
	headerSize = 16 // struct virtio_blk_req without data and status, virtio 1.2 §5.2.6
	rangeSize  = 16 // struct virtio_blk_discard_write_zeroes

	flagUnmap = 1 << 0 // of a range
)

// kind is the type of a request.
type kind uint32

const (
	kindRead        kind = 0
	kindWrite       kind = 1
	kindFlush       kind = 4
	kindGetID       kind = 8
	kindDiscard     kind = 11
	kindWriteZeroes kind = 13
)

// status is the last byte of a request.
type status byte

const (
	statusOK          status = 0
	statusIOError     status = 1
	statusUnsupported status = 2
)

// header is the first part of a request.
type header struct {
	kind   kind
	sector uint64
}

// parseHeader decodes b. Every value of every field is possible in the result.
func parseHeader(b *[headerSize]byte) header {
	le := binary.LittleEndian
	return header{kind: kind(le.Uint32(b[0:])), sector: le.Uint64(b[8:])}
}

// extent is a part of the disk in bytes, inside its size.
type extent struct{ off, n uint64 }

// locate is the extent of n bytes at sector of a disk of size bytes; false if it is not
// whole sectors inside the disk.
func locate(sector, n, size uint64) (extent, bool) {
	if n%SectorSize != 0 || sector > size/SectorSize || n > size-sector*SectorSize {
		return extent{}, false
	}
	return extent{sector * SectorSize, n}, true
}

// parseRange decodes a range to discard or to zero; false if it is not inside a disk of
// size bytes.
func parseRange(b *[rangeSize]byte, size uint64) (e extent, flags uint32, ok bool) {
	le := binary.LittleEndian
	e, ok = locate(le.Uint64(b[0:]), uint64(le.Uint32(b[8:]))*SectorSize, size)
	return e, le.Uint32(b[12:]), ok
}
