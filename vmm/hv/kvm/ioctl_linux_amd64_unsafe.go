//go:build linux && amd64

package kvm

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl calls with an integer argument. A signal does not end it: only KVM_RUN, which
// does not come this way, may be interrupted.
func ioctl(fd int, request, arg uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR, unix.EAGAIN:
		default:
			return 0, errno
		}
	}
}

// ioctlPtr calls with a pointer to the kernel's structure for the request.
func ioctlPtr[T any](fd int, request uintptr, p *T) (int, error) {
	for {
		// SAFETY: the conversion is part of the call, so *p neither moves nor goes before
		// it returns; its size is the kernel's, which the tests check.
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR, unix.EAGAIN:
		default:
			return 0, errno
		}
	}
}

// ioctlBytes calls with a structure that was laid out by hand; b is as large as the
// request makes the kernel believe.
func ioctlBytes(fd int, request uintptr, b []byte) (int, error) {
	return ioctlPtr(fd, request, unsafe.SliceData(b))
}

// enter is KVM_RUN for a guest that is expected back soon: the thread keeps its processor
// of Go's, which nobody has to give it again then.
func enter(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), kvmRun, 0)
	return errno
}

// enterForLong is KVM_RUN that lets the scheduler run other goroutines meanwhile.
func enterForLong(fd int) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), kvmRun, 0)
	return errno
}

// addressOf is where b starts in this process.
func addressOf(b []byte) uint64 {
	// SAFETY: the address is passed to the kernel as a number; b is memory outside of
	// the Go heap, which does not move.
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

// raw are the bytes of a structure without pointers.
func raw[T any](p *T) []byte {
	// SAFETY: exactly the bytes of *p, which has no pointers.
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}
