//go:build linux

package blk

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVector is how many buffers one system call takes: enough for half a MiB of single
// pages, and small enough for the stack.
const maxVector = 128

// vector is an array for readv(2) and its kin.
type vector [maxVector]unix.Iovec

// fill describes at most n bytes of list after the first skip, and returns how many
// buffers that takes.
func (v *vector) fill(list [][]byte, skip, n uint64) int {
	i := 0
	for _, s := range list {
		if skip >= uint64(len(s)) {
			skip -= uint64(len(s))
			continue
		}
		s = s[skip:]
		skip = 0
		if uint64(len(s)) > n {
			s = s[:n]
		}
		if len(s) == 0 || i == maxVector {
			break
		}
		v[i].Base = unsafe.SliceData(s)
		v[i].SetLen(len(s))
		n -= uint64(len(s))
		i++
	}
	return i
}

// call is one of preadv2(2) and pwritev2(2), whose offset comes in two halves.
func (v *vector) call(trap uintptr, fd, count int, off uint64, flags uintptr) (uint64, error) {
	// SAFETY: the kernel gets count elements of v, each of which spans a slice that the
	// caller holds.
	n, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(v)), uintptr(count), uintptr(off), uintptr(off>>32), flags)
	if errno != 0 {
		return 0, errno
	}
	return uint64(n), nil
}

func (f *file) readSome(off uint64, dst [][]byte, skip, n uint64) (uint64, error) {
	var v vector
	return v.call(unix.SYS_PREADV, f.fd, v.fill(dst, skip, n), off, 0)
}

func (f *file) writeSome(off uint64, src [][]byte, skip, n uint64) (uint64, error) {
	var v vector
	return v.call(unix.SYS_PWRITEV, f.fd, v.fill(src, skip, n), off, 0)
}

// waits knows whether the file takes RWF_NOWAIT.
type waits struct{ unknown atomic.Bool }

// tryRead is read as far as the page cache goes.
func (f *file) tryRead(off uint64, dst [][]byte, skip, n uint64) (attempt, error) {
	for n > 0 {
		if f.unknown.Load() {
			return attemptUnknown, nil
		}
		var v vector
		got, err := v.call(unix.SYS_PREADV2, f.fd, v.fill(dst, skip, n), off, unix.RWF_NOWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return attemptBlocks, nil
		case err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EINVAL:
			f.unknown.Store(true)
			return attemptUnknown, nil
		case err != nil:
			return attemptDone, err
		case got == 0:
			return attemptBlocks, nil // read gives the reason
		}
		off, skip, n = off+got, skip+got, n-got
	}
	return attemptDone, nil
}

func (f *file) flush() error {
	for {
		if err := unix.Fdatasync(f.fd); err != unix.EINTR {
			return err
		}
	}
}

// punch gives up the space of n bytes at off, which become zero.
func (f *file) punch(off, n uint64) error {
	return fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// zero makes n bytes at off zero without giving up their space.
func (f *file) zero(off, n uint64) error {
	return fallocate(f.fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func fallocate(fd int, mode uint32, off, n uint64) error {
	for {
		err := unix.Fallocate(fd, mode, int64(off), int64(n))
		switch err {
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV, unix.EINVAL:
			return syscall.ENOTSUP
		default:
			return err
		}
	}
}
