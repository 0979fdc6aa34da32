package memory

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Word is a 32-bit little-endian word of guest memory that the guest and the host
// access at the same time.
type Word struct{ p *uint32 }

// Word returns the word at addr, a multiple of 4, for atomic access.
func (m *Memory) Word(addr uint64) (Word, error) {
	b, err := m.Slice(addr, 4)
	if err != nil {
		return Word{}, err
	}
	if addr%4 != 0 {
		return Word{}, fmt.Errorf("%w: %#x is not a multiple of 4", ErrOutOfRange, addr)
	}
	// SAFETY: four bytes inside the mapping, aligned because regions start on pages.
	return Word{(*uint32)(unsafe.Pointer(&b[0]))}, nil
}

// Load reads the word.
func (w Word) Load() uint32 { return atomic.LoadUint32(w.p) }

// Store writes the word.
func (w Word) Store(v uint32) { atomic.StoreUint32(w.p, v) }

// LoadUint32 reads the word at addr, a multiple of 4, atomically.
func (m *Memory) LoadUint32(addr uint64) (uint32, error) {
	w, err := m.Word(addr)
	if err != nil {
		return 0, err
	}
	return w.Load(), nil
}

// StoreUint32 writes the word at addr, a multiple of 4, atomically.
func (m *Memory) StoreUint32(addr uint64, v uint32) error {
	w, err := m.Word(addr)
	if err != nil {
		return err
	}
	w.Store(v)
	return nil
}

// Word64 is a 64-bit little-endian word of guest memory that the guest and the host
// access at the same time.
type Word64 struct{ p *uint64 }

// Word64 returns the word at addr, a multiple of 8, for atomic access. It does not
// allocate.
func (m *Memory) Word64(addr uint64) (Word64, error) {
	b, err := m.Slice(addr, 8)
	if err != nil || addr%8 != 0 {
		return Word64{}, ErrOutOfRange
	}
	// SAFETY: eight bytes inside the mapping, aligned because regions start on pages.
	return Word64{(*uint64)(unsafe.Pointer(&b[0]))}, nil
}

// Load reads the word.
func (w Word64) Load() uint64 { return atomic.LoadUint64(w.p) }

// CompareAndSwap stores v if the word is old, and reports whether it was.
func (w Word64) CompareAndSwap(old, v uint64) bool { return atomic.CompareAndSwapUint64(w.p, old, v) }
