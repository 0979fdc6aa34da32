package blk

import (
	"fmt"
	"sync"
	"syscall"
)

// File is a regular file or a block device of the host that holds a disk of some format,
// for backends outside this package. Its methods may be called from several goroutines
// at a time and do not allocate. Offsets and lengths are in bytes of the file.
type File struct {
	file  *file
	close sync.Once
}

// OpenFile opens the file at path. The error wraps ErrImage or is that of the host.
func OpenFile(path string, readOnly bool) (*File, error) {
	f, err := openFile(path, readOnly)
	if err != nil {
		return nil, err
	}
	return &File{file: f}, nil
}

// Size is the length at the time of the open.
func (f *File) Size() uint64 { return f.file.size }

// Read fills n bytes of dst after the first skip, from off. What ends before that is
// io.ErrUnexpectedEOF.
func (f *File) Read(off uint64, dst [][]byte, skip, n uint64) error {
	return f.file.read(off, dst, skip, n)
}

// Write stores n bytes of src after the first skip, at off.
func (f *File) Write(off uint64, src [][]byte, skip, n uint64) error {
	return f.file.write(off, src, skip, n)
}

// Zero makes n bytes at off zero and gives their space up where the host can.
func (f *File) Zero(off, n uint64) error {
	r := raw{file: f.file}
	return r.WriteZeroes(off, n, true)
}

// Grow makes the file at least size long; what is new is zero.
func (f *File) Grow(size uint64) error {
	info, err := f.file.f.Stat()
	if err != nil {
		return err
	}
	switch {
	case !info.Mode().IsRegular() && size <= f.file.size:
		return nil
	case !info.Mode().IsRegular():
		return fmt.Errorf("grow a block device: %w", syscall.ENOSPC)
	case size <= uint64(info.Size()):
		return nil
	}
	return f.file.f.Truncate(int64(size))
}

// Sync makes durable what was written by calls that returned before it began.
func (f *File) Sync() error { return f.file.flush() }

// Close frees everything, without a flush.
func (f *File) Close() (err error) {
	f.close.Do(func() { err = f.file.f.Close() })
	return err
}

// Wipe clears n bytes of list after the first skip.
func Wipe(list [][]byte, skip, n uint64) { wipe(list, skip, n) }
