package format

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// punch makes a run of a file zeros, and a hole where the file system can.
func punch(f *os.File, r Range) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.Offset, r.Length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return writeZeros(f, r)
	}
	return os.NewSyscallError("fallocate", err)
}
