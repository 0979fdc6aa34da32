package qcow2

import "encoding/binary"

// refcount is the count at index i of a block, of 1<<order bits. Counts of less than a
// byte begin at the byte's low bits.
func refcount(b []byte, order uint32, i uint64) uint64 {
	switch order {
	case 3:
		return uint64(b[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(b[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(b[i*4:]))
	case 6:
		return binary.BigEndian.Uint64(b[i*8:])
	}
	width := uint64(1) << order
	per := 8 / width
	return uint64(b[i/per]) >> (i % per * width) & (1<<width - 1)
}

// setRefcount changes what refcount returns; v has at most 1<<order bits.
func setRefcount(b []byte, order uint32, i, v uint64) {
	switch order {
	case 3:
		b[i] = byte(v)
		return
	case 4:
		binary.BigEndian.PutUint16(b[i*2:], uint16(v))
		return
	case 5:
		binary.BigEndian.PutUint32(b[i*4:], uint32(v))
		return
	case 6:
		binary.BigEndian.PutUint64(b[i*8:], v)
		return
	}
	width := uint64(1) << order
	per := 8 / width
	shift := i % per * width
	mask := byte(1<<width-1) << shift
	b[i/per] = b[i/per]&^mask | byte(v)<<shift
}
