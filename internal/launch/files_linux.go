package launch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// anonymousFile lives in memory: a configuration holds secrets and touches no disk.
func anonymousFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
