//go:build linux

package memory

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Populate makes the pages of n bytes at addr ones that the guest can write to without a
// fault of this process; what a file is behind is copied. It only saves time.
func (m *Memory) Populate(addr, n uint64) error {
	b, err := m.Slice(addr, n)
	if err != nil {
		return err
	}
	return os.NewSyscallError("madvise", unix.Madvise(b, unix.MADV_POPULATE_WRITE))
}

// An entry of /proc/self/pagemap describes a page (Documentation/admin-guide/mm/pagemap.rst).
const (
	pagemapEntry   = 8 // bytes
	pagemapFile    = 1 << 61
	pagemapSwapped = 1 << 62
	pagemapPresent = 1 << 63
)

// Written lists the pages that were written to since MapFile, of those that it mapped.
func (m *Memory) Written() ([]Range, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var list []Range
	buf := make([]byte, 8192*pagemapEntry)
	for _, r := range m.files {
		b, err := m.Slice(r.Base, r.Size)
		if err != nil {
			return nil, err
		}
		// SAFETY: only the number is used.
		first := int64(uintptr(unsafe.Pointer(&b[0])) / PageSize)
		for at := uint64(0); at < r.Size; {
			entries := buf[:min(uint64(len(buf)), (r.Size-at)/PageSize*pagemapEntry)]
			if _, err := f.ReadAt(entries, (first+int64(at/PageSize))*pagemapEntry); err != nil {
				return nil, err
			}
			for ; len(entries) > 0; entries = entries[pagemapEntry:] {
				e := binary.NativeEndian.Uint64(entries)
				if e&(pagemapPresent|pagemapSwapped) != 0 && e&pagemapFile == 0 {
					list = appendPage(list, r.Base+at)
				}
				at += PageSize
			}
		}
	}
	return list, nil
}

// appendPage adds the page at addr to ascending ranges.
func appendPage(list []Range, addr uint64) []Range {
	if n := len(list); n > 0 && list[n-1].Base+list[n-1].Size == addr {
		list[n-1].Size += PageSize
		return list
	}
	return append(list, Range{Base: addr, Size: PageSize})
}
