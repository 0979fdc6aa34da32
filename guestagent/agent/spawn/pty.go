//go:build linux

package spawn

import (
	"errors"

	"golang.org/x/sys/unix"
)

// OpenPTY makes a pseudo terminal of the given size in character cells. The master does
// not block; both ends are closed on exec.
func OpenPTY(rows, cols uint16) (master, slave int, err error) {
	master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, -1, err
	}
	if slave, err = openSlave(master); err == nil {
		err = Resize(master, rows, cols)
	}
	if err != nil {
		closeAll([]int{master})
		if slave >= 0 {
			closeAll([]int{slave})
		}
		return -1, -1, err
	}
	return master, slave, nil
}

// openSlave opens the other end by the master, so that no path to it is needed.
func openSlave(master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// Resize sets the size of the terminal behind either end. The foreground process group
// gets SIGWINCH if it changed.
func Resize(fd int, rows, cols uint16) error {
	for {
		err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
