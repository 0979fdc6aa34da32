package reap

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfo is the part of the kernel's siginfo_t that waitid fills, on 64-bit machines.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	_                     [108]byte
}

// waitable blocks until a child is a zombie and returns its number. The child stays one,
// so that its number cannot be given to another process yet.
func waitable() (pid int, err error) {
	var info siginfo
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)),
		unix.WEXITED|unix.WNOWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(info.pid), nil
}
