//go:build unix

package memory

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapping is a mapping with an inaccessible page on each side.
type mapping struct{ whole, usable []byte }

func mapGuarded(size uint64) (mapping, error) {
	whole, err := unix.Mmap(-1, 0, int(size+2*PageSize), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
	if err != nil {
		return mapping{}, os.NewSyscallError("mmap", err)
	}
	m := mapping{whole: whole, usable: whole[PageSize : PageSize+size : PageSize+size]}
	err = unix.Mprotect(m.usable, unix.PROT_READ|unix.PROT_WRITE)
	if err == nil {
		err = keepFromChildren(m.usable)
	}
	if err != nil {
		_ = m.unmap()
		return mapping{}, fmt.Errorf("protect: %w", err)
	}
	return m, nil
}

func (m mapping) unmap() error { return unix.Munmap(m.whole) }
