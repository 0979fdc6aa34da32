//go:build linux

package memory

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const mapNoReserve = unix.MAP_NORESERVE

func keepFromChildren(b []byte) error { return unix.Madvise(b, unix.MADV_DONTFORK) }

func discard(b []byte) error {
	return os.NewSyscallError("madvise", unix.Madvise(b, unix.MADV_DONTNEED))
}

// MapFile replaces the pages at addr by a private view of n bytes of f from off: they
// are loaded on demand, shared with every other view until the guest writes to them. All
// three numbers are whole pages. It must not be called while others use the Memory.
func (m *Memory) MapFile(addr uint64, f *os.File, off, n int64) error {
	if addr%PageSize != 0 || off%PageSize != 0 || n%PageSize != 0 || off < 0 || n <= 0 {
		return fmt.Errorf("map file at %#x: %w: not whole pages", addr, ErrOutOfRange)
	}
	b, err := m.Slice(addr, uint64(n))
	if err != nil {
		return fmt.Errorf("map %d bytes of a file at %#x: %w", n, addr, err)
	}
	// SAFETY: b is inside a mapping that this Memory owns and stays mapped; MAP_FIXED
	// replaces exactly its pages.
	_, err = unix.MmapPtr(int(f.Fd()), off, unsafe.Pointer(&b[0]), uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	m.files = append(m.files, Range{Base: addr, Size: uint64(n)})
	return os.NewSyscallError("madvise", unix.Madvise(b, unix.MADV_DONTFORK))
}

// Rebase has files behind the memory in place of what is there, which must be the same: each of
// the views, ascending and not overlapping, is as by MapFile, and outside of them the memory in
// within is zeros. It must not be called while others use the Memory. After an error all holds
// what it did, part of it in one way and part of it in the other.
func (m *Memory) Rebase(within []Range, views []View) error {
	var files []Range
	for _, r := range within {
		at := r.Base
		for _, v := range views {
			if v.Addr < r.Base || v.Addr-r.Base >= r.Size {
				continue
			}
			if v.Addr > at {
				if err := m.Discard(at, v.Addr-at); err != nil {
					return err
				}
			}
			if err := m.MapFile(v.Addr, v.File, v.Offset, v.Size); err != nil {
				return err
			}
			files = append(files, Range{Base: v.Addr, Size: uint64(v.Size)})
			at = v.Addr + uint64(v.Size)
		}
		if end := r.Base + r.Size; end > at {
			if err := m.Discard(at, end-at); err != nil {
				return err
			}
		}
	}
	m.files = files
	return nil
}

// discardFile is discard of pages some of which a file is behind.
func discardFile(b []byte) error {
	// SAFETY: as in MapFile.
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(&b[0]), uintptr(len(b)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|unix.MAP_NORESERVE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	return os.NewSyscallError("madvise", unix.Madvise(b, unix.MADV_DONTFORK))
}
