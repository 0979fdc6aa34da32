//go:build linux

package passthrough

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The functions below are system calls that take names as they are in a request, without
// making a Go string of each. Names and paths end with a NUL.
//
// SAFETY: every pointer is to memory that the caller holds, and that the kernel touches
// during the call only: strings up to their NUL, buffers up to their length.

// base is the address of the first byte of p, 0 without one.
func base(p []byte) *byte { return unsafe.SliceData(p) }

// resolve keeps a path below its directory and off every link.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// openBeneath opens a name in a directory.
func openBeneath(dir int, name *byte, flags int, mode uint32) (int, syscall.Errno) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: resolve}
	for {
		fd, _, e := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		switch e {
		case 0:
			return int(fd), 0
		case unix.EINTR:
		default:
			return -1, e
		}
	}
}

// openPath opens what a path in /proc leads to.
func openPath(path *byte, flags int) (int, syscall.Errno) {
	for {
		fd, _, e := unix.Syscall6(unix.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(path)), uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
		switch e {
		case 0:
			return int(fd), 0
		case unix.EINTR:
		default:
			return -1, e
		}
	}
}

const atFDCWD = ^uintptr(99) // AT_FDCWD is -100

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

// statAt describes a name in a directory, which is not followed.
func statAt(dir int, name *byte, st *unix.Statx_t) syscall.Errno {
	_, _, e := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, uintptr(unsafe.Pointer(st)), 0)
	return e
}

var emptyPath = [1]byte{}

// statFD describes an open file.
func statFD(fd int, st *unix.Statx_t) syscall.Errno {
	_, _, e := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&emptyPath[0])), unix.AT_EMPTY_PATH, statMask, uintptr(unsafe.Pointer(st)), 0)
	return e
}

// getXattr reads an attribute of what a path leads to; with link a symbolic link at its
// end is not followed.
func getXattr(path *byte, link bool, key, buf []byte) (int, syscall.Errno) {
	trap := uintptr(unix.SYS_GETXATTR)
	if link {
		trap = unix.SYS_LGETXATTR
	}
	n, _, e := unix.Syscall6(trap, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&key[0])), uintptr(unsafe.Pointer(base(buf))), uintptr(len(buf)), 0, 0)
	return int(n), e
}

func fgetXattr(fd int, key, buf []byte) (int, syscall.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_FGETXATTR, uintptr(fd), uintptr(unsafe.Pointer(&key[0])), uintptr(unsafe.Pointer(base(buf))), uintptr(len(buf)), 0, 0)
	return int(n), e
}

// xattrArgs is struct xattr_args.
type xattrArgs struct {
	value       *byte
	size, flags uint32
}

// getXattrAt and setXattrAt reach the attribute of a name in a directory, which is not
// followed, without a path through /proc. Linux has them from 6.13 on.
func getXattrAt(dir int, name *byte, key, buf []byte) (int, syscall.Errno) {
	a := xattrArgs{value: base(buf), size: uint32(len(buf))}
	n, _, e := unix.Syscall6(unix.SYS_GETXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(&key[0])), uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	return int(n), e
}

func setXattrAt(dir int, name *byte, key, value []byte) syscall.Errno {
	a := xattrArgs{value: base(value), size: uint32(len(value))}
	_, _, e := unix.Syscall6(unix.SYS_SETXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(&key[0])), uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	return e
}

func setXattr(path *byte, link bool, key, value []byte, flags int) syscall.Errno {
	trap := uintptr(unix.SYS_SETXATTR)
	if link {
		trap = unix.SYS_LSETXATTR
	}
	_, _, e := unix.Syscall6(trap, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&key[0])), uintptr(unsafe.Pointer(base(value))), uintptr(len(value)), uintptr(flags), 0)
	return e
}

func fsetXattr(fd int, key, value []byte, flags int) syscall.Errno {
	_, _, e := unix.Syscall6(unix.SYS_FSETXATTR, uintptr(fd), uintptr(unsafe.Pointer(&key[0])), uintptr(unsafe.Pointer(base(value))), uintptr(len(value)), uintptr(flags), 0)
	return e
}

func listXattr(path *byte, buf []byte) (int, syscall.Errno) {
	n, _, e := unix.Syscall(unix.SYS_LISTXATTR, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(base(buf))), uintptr(len(buf)))
	return int(n), e
}

func removeXattr(path *byte, key []byte) syscall.Errno {
	_, _, e := unix.Syscall(unix.SYS_REMOVEXATTR, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&key[0])), 0)
	return e
}

func readLink(dir int, name *byte, buf []byte) (int, syscall.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(base(buf))), uintptr(len(buf)), 0, 0)
	return int(n), e
}

func mkdirAt(dir int, name *byte, mode uint32) syscall.Errno {
	_, _, e := unix.Syscall(unix.SYS_MKDIRAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(mode))
	return e
}

func unlinkAt(dir int, name *byte, flags int) syscall.Errno {
	_, _, e := unix.Syscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(flags))
	return e
}

func symlinkAt(target *byte, dir int, name *byte) syscall.Errno {
	_, _, e := unix.Syscall(unix.SYS_SYMLINKAT, uintptr(unsafe.Pointer(target)), uintptr(dir), uintptr(unsafe.Pointer(name)))
	return e
}

// linkPath makes a name for what a path in /proc leads to.
func linkPath(path *byte, dir int, name *byte) syscall.Errno {
	_, _, e := unix.Syscall6(unix.SYS_LINKAT, atFDCWD, uintptr(unsafe.Pointer(path)), uintptr(dir), uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_FOLLOW, 0)
	return e
}

func renameAt(oldDir int, oldName *byte, newDir int, newName *byte, flags uint32) syscall.Errno {
	_, _, e := unix.Syscall6(unix.SYS_RENAMEAT2, uintptr(oldDir), uintptr(unsafe.Pointer(oldName)), uintptr(newDir), uintptr(unsafe.Pointer(newName)), uintptr(flags), 0)
	return e
}

func truncatePath(path *byte, length int64) syscall.Errno {
	for {
		_, _, e := unix.Syscall(unix.SYS_TRUNCATE, uintptr(unsafe.Pointer(path)), uintptr(length), 0)
		if e != unix.EINTR {
			return e
		}
	}
}

func chmodPath(path *byte, mode uint32) syscall.Errno {
	_, _, e := unix.Syscall(unix.SYS_FCHMODAT, atFDCWD, uintptr(unsafe.Pointer(path)), uintptr(mode))
	return e
}

// timesPath sets the times of what a path in /proc leads to.
func timesPath(path *byte, times *[2]unix.Timespec) syscall.Errno {
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, atFDCWD, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(times)), 0, 0, 0)
	return e
}

// nameOf is the address of a node's name, which ends with a NUL.
func nameOf(name string) *byte { return unsafe.StringData(name) }

// maxVector is how many buffers one system call takes: enough for the largest request in
// single pages, and small enough for the stack.
const maxVector = 264

// vector is an array for readv(2) and its kin.
type vector [maxVector]unix.Iovec

// fill describes list from its byte skip on, and returns how many buffers that takes.
func (v *vector) fill(list [][]byte, skip uint64) int {
	i := 0
	for _, s := range list {
		if skip >= uint64(len(s)) {
			skip -= uint64(len(s))
			continue
		}
		s = s[skip:]
		skip = 0
		if i == maxVector {
			break
		}
		v[i].Base = unsafe.SliceData(s)
		v[i].SetLen(len(s))
		i++
	}
	return i
}

func (v *vector) call(trap uintptr, fd, count int, off uint64, flags uintptr) (uint64, syscall.Errno) {
	n, _, e := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(v)), uintptr(count), uintptr(off), uintptr(off>>32), flags)
	return uint64(n), e
}

// readV fills dst from off of a file, and returns how much it got before the file's end
// or an error.
func readV(fd int, off uint64, dst [][]byte) (done uint64, e syscall.Errno) {
	var v vector
	for total := size(dst); done < total; {
		n, e := v.call(unix.SYS_PREADV, fd, v.fill(dst, done), off+done, 0)
		switch {
		case e == unix.EINTR:
			continue
		case e != 0 && done == 0:
			return 0, e
		case e != 0 || n == 0:
			return done, 0
		}
		done += n
	}
	return done, 0
}

// readNow is readV if that takes no wait for a disk, else EAGAIN.
func readNow(fd int, off uint64, dst [][]byte) (done uint64, e syscall.Errno) {
	var v vector
	for total := size(dst); done < total; {
		n, e := v.call(unix.SYS_PREADV2, fd, v.fill(dst, done), off+done, unix.RWF_NOWAIT)
		switch {
		case e == unix.EINTR:
			continue
		case e != 0:
			return 0, e
		case n == 0:
			return done, 0
		}
		done += n
	}
	return done, 0
}

// writeV stores src at off of a file, or at its end, and returns how much it could before
// an error.
func writeV(fd int, off uint64, src [][]byte, atEnd bool) (done uint64, e syscall.Errno) {
	var v vector
	trap, flags := uintptr(unix.SYS_PWRITEV), uintptr(0)
	if atEnd {
		trap, flags = unix.SYS_PWRITEV2, unix.RWF_APPEND
	}
	for total := size(src); done < total; {
		n, e := v.call(trap, fd, v.fill(src, done), off+done, flags)
		switch {
		case e == unix.EINTR:
			continue
		case e != 0 && done == 0:
			return 0, e
		case e != 0 || n == 0:
			return done, 0
		}
		done += n
	}
	return done, 0
}
