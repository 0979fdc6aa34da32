//go:build unix

package reserve

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// most is what is kept free, or a quarter of what the process may have if that is less.
const most = 256

// ErrSpent reports that the guest's network has all descriptors that it may have. It wraps
// EMFILE.
var ErrSpent = fmt.Errorf("the guest's network has all the descriptors that it may have, raise RLIMIT_NOFILE: %w", unix.EMFILE)

// Socket is a net.Dialer's Control: it refuses a socket that is one of the last, with
// ErrSpent.
func Socket(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = Check(int(fd)) }); e != nil {
		return e
	}
	return err
}

// Check reports ErrSpent if a descriptor that was just made is one of the last. A new one
// has the least number that is free (POSIX.1-2017, 2.14), so that its number is less than
// or equal to how many the process has, whoever opened them.
func Check(fd int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	if uint64(fd) >= limit.Cur-min(limit.Cur/4, most) {
		return ErrSpent
	}
	return nil
}
