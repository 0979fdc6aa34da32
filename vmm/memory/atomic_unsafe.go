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
