package blk

// Parked returns the backend of a drive without a disk in it: it has no sectors. A device
// that was saved with it may be restored with any other backend, of the same kind
// (read-only or not); the guest is told that the capacity changed.
func Parked(readOnly bool) Backend { return parked(readOnly) }

type parked bool

func (parked) Size() uint64                           { return 0 }
func (p parked) ReadOnly() bool                       { return bool(p) }
func (parked) ReadV(uint64, [][]byte) error           { return ErrImage }
func (parked) WriteV(uint64, [][]byte) error          { return ErrImage }
func (parked) Flush() error                           { return nil }
func (parked) Discard(uint64, uint64) error           { return ErrImage }
func (parked) WriteZeroes(uint64, uint64, bool) error { return ErrImage }
func (parked) Close() error                           { return nil }
