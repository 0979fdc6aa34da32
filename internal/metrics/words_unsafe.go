package metrics

import (
	"sync/atomic"
	"unsafe"
)

// words is a part of the segment, as fields that other processes change at any time.
type words []byte

// u32 is the field at off, a multiple of 4 within w.
func (w words) u32(off int) *atomic.Uint32 {
	b := w[off : off+4]
	// SAFETY: four bytes of the mapping, which starts on a page, so that a multiple of
	// 4 is aligned; the mapping outlives the Registry's methods.
	return (*atomic.Uint32)(unsafe.Pointer(&b[0]))
}

// u64 is the field at off, a multiple of 8 within w.
func (w words) u64(off int) *atomic.Uint64 {
	b := w[off : off+8]
	// SAFETY: as above, with 8.
	return (*atomic.Uint64)(unsafe.Pointer(&b[0]))
}
