//go:build !linux

package runtime

import (
	"os"

	"golang.org/x/sys/unix"
)

// duplicate makes fd a copy of f.
func duplicate(f *os.File, fd int) error { return unix.Dup2(int(f.Fd()), fd) }

// closeOnExec does nothing: descriptors are inherited where there are sandboxes only.
func closeOnExec() error { return nil }
