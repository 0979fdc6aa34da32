package memory

import "unsafe"

// DiscardSlice is Discard of the whole pages in b, which must be what Slice returned or a
// part of it; else ErrOutOfRange.
func (m *Memory) DiscardSlice(b []byte) error {
	addr, ok := m.address(b)
	if !ok {
		return ErrOutOfRange
	}
	skip := -addr % PageSize
	if skip >= uint64(len(b)) {
		return nil
	}
	n := (uint64(len(b)) - skip) / PageSize * PageSize
	if n == 0 {
		return nil
	}
	return m.Discard(addr+skip, n)
}

// address is where the guest finds b.
func (m *Memory) address(b []byte) (uint64, bool) {
	// SAFETY: the pointers are only compared.
	p := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	for i := range m.regions {
		r := &m.regions[i]
		off := uint64(p - uintptr(unsafe.Pointer(unsafe.SliceData(r.Host))))
		if off < r.Size && uint64(len(b)) <= r.Size-off {
			return r.Base + off, true
		}
	}
	return 0, false
}
