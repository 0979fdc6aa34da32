package blk

import "errors"

// SectorSize is the unit of the device's addresses and of a disk's size, in bytes.
const SectorSize = 512

var (
	// ErrConfig is wrapped by the errors of Config.Validate.
	ErrConfig = errors.New("invalid block device configuration")
	// ErrImage reports a file that cannot be a disk.
	ErrImage = errors.New("invalid disk image")
	// ErrReadOnly reports a change of a disk that does not take any.
	ErrReadOnly = errors.New("disk is read-only")
)

// Backend stores the bytes of a disk. The device calls its methods, but Close, from
// several goroutines at a time, with whole sectors inside Size, and never after Close.
// Buffers are guest memory, valid during the call only; nothing may allocate.
type Backend interface {
	// Size is the size of the disk in bytes, a multiple of SectorSize. It is constant.
	Size() uint64
	// ReadOnly reports that the methods that change the disk fail with ErrReadOnly.
	ReadOnly() bool
	// ReadV fills dst from off, all of it unless there is an error.
	ReadV(off uint64, dst [][]byte) error
	// WriteV stores src at off, all of it unless there is an error.
	WriteV(off uint64, src [][]byte) error
	// Flush makes durable what was written by calls that returned before it began.
	Flush() error
	// Discard says that the content of n bytes at off does not matter any more.
	Discard(off, n uint64) error
	// WriteZeroes makes n bytes at off zero; with unmap their space may be given up.
	WriteZeroes(off, n uint64, unmap bool) error
	// Close frees everything, without a flush.
	Close() error
}

// tryReader is a Backend that may know what it can read at once.
type tryReader interface {
	// TryReadV is ReadV if that does not wait for a disk, which attemptDone says or an
	// error. Else the content of dst is undefined.
	TryReadV(off uint64, dst [][]byte) (attempt, error)
}

// attempt is how far TryReadV got.
type attempt int

const (
	attemptDone    attempt = iota
	attemptBlocks          // ReadV would wait
	attemptUnknown         // nobody can say whether ReadV would wait
)
