//go:build unix

package memory

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size in bytes of the pages that hypervisors and hosts prefer to 4 KiB
// ones: those of the second level of x86-64 and of arm64 with 4 KiB granules.
const hugePage = 2 << 20

// mapping is a mapping with inaccessible pages on each side.
type mapping struct{ whole, usable []byte }

// mapGuarded maps r so that each of its addresses is as far from a huge page's start here
// as in the guest. Else no huge page of the host can be one of the guest's, and KVM gives
// a guest whose memory lies otherwise nothing but single pages, each at a fault's cost.
func mapGuarded(r Range) (mapping, error) {
	whole, err := unix.Mmap(-1, 0, int(r.Size+2*PageSize+hugePage), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
	if err != nil {
		return mapping{}, os.NewSyscallError("mmap", err)
	}
	// SAFETY: only the number is used.
	first := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(whole)))) + PageSize
	start := PageSize + (r.Base-first)%hugePage
	m := mapping{whole: whole, usable: whole[start : start+r.Size : start+r.Size]}
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
