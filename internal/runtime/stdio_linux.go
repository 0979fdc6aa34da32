package runtime

import (
	"os"

	"golang.org/x/sys/unix"
)

// duplicate makes fd a copy of f.
func duplicate(f *os.File, fd int) error { return unix.Dup3(int(f.Fd()), fd, 0) }

// closeOnExec keeps every descriptor but the standard streams from children.
func closeOnExec() error { return unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) }
