//go:build !linux

package blk

import (
	"errors"
	"io"
	"syscall"
)

// part is the first buffer of list after skip bytes, n bytes of it at most.
func part(list [][]byte, skip, n uint64) []byte {
	for _, s := range list {
		if skip < uint64(len(s)) {
			return s[skip:min(uint64(len(s)), skip+n)]
		}
		skip -= uint64(len(s))
	}
	return nil
}

func (f *file) readSome(off uint64, dst [][]byte, skip, n uint64) (uint64, error) {
	got, err := f.f.ReadAt(part(dst, skip, n), int64(off))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return uint64(got), err
}

func (f *file) writeSome(off uint64, src [][]byte, skip, n uint64) (uint64, error) {
	put, err := f.f.WriteAt(part(src, skip, n), int64(off))
	return uint64(put), err
}

// waits has nothing to remember here.
type waits struct{}

func (f *file) tryRead(uint64, [][]byte, uint64, uint64) (attempt, error) {
	return attemptUnknown, nil
}

func (f *file) flush() error { return f.f.Sync() }

func (f *file) punch(uint64, uint64) error { return syscall.ENOTSUP }

func (f *file) zero(uint64, uint64) error { return syscall.ENOTSUP }
