package blk

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
)

// raw is a disk that is the content of one file.
type raw struct {
	*file
	size     uint64
	readOnly bool
	close    sync.Once
}

// OpenRaw opens a regular file or a block device as a disk. Its bytes are the disk's
// whatever they look like, and bytes after the last whole sector are left out. The error
// wraps ErrImage or is that of the host.
func OpenRaw(path string, readOnly bool) (Backend, error) {
	f, err := openFile(path, readOnly)
	if err != nil {
		return nil, err
	}
	size := f.size / SectorSize * SectorSize
	if size == 0 {
		return nil, errors.Join(fmt.Errorf("%w: %s has %d bytes, less than a sector", ErrImage, path, f.size), f.f.Close())
	}
	return &raw{file: f, size: size, readOnly: readOnly}, nil
}

func (r *raw) Size() uint64   { return r.size }
func (r *raw) ReadOnly() bool { return r.readOnly }

func (r *raw) ReadV(off uint64, dst [][]byte) error { return r.read(off, dst, 0, length(dst)) }

func (r *raw) TryReadV(off uint64, dst [][]byte) (attempt, error) {
	return r.tryRead(off, dst, 0, length(dst))
}

func (r *raw) WriteV(off uint64, src [][]byte) error {
	if r.readOnly {
		return ErrReadOnly
	}
	return r.write(off, src, 0, length(src))
}

func (r *raw) Flush() error {
	if r.readOnly {
		return nil
	}
	return r.flush()
}

// Discard does nothing where the host has no way to give the space up: the content does
// not matter.
func (r *raw) Discard(off, n uint64) error {
	if r.readOnly {
		return ErrReadOnly
	}
	if err := r.punch(off, n); err != syscall.ENOTSUP {
		return err
	}
	return nil
}

func (r *raw) WriteZeroes(off, n uint64, unmap bool) error {
	if r.readOnly {
		return ErrReadOnly
	}
	if unmap {
		if err := r.punch(off, n); err != syscall.ENOTSUP {
			return err
		}
	}
	if err := r.zero(off, n); err != syscall.ENOTSUP {
		return err
	}
	return r.writeZeroes(off, n)
}

// zeroes is what writeZeroes writes.
var zeroes [64 << 10]byte

// writeZeroes is for hosts that have nothing better.
func (r *raw) writeZeroes(off, n uint64) error {
	list := [1][]byte{zeroes[:]}
	for n > 0 {
		step := min(n, uint64(len(zeroes)))
		if err := r.write(off, list[:], 0, step); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

func (r *raw) Close() (err error) {
	r.close.Do(func() { err = r.f.Close() })
	return err
}
