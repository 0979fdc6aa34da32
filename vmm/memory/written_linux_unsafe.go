//go:build linux

package memory

import (
	"encoding/binary"
	"errors"
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

// Touched lists the pages that the guest, or this process, has touched since MapFile, of those
// that it mapped: written has the ones that were written to, read the others. Without Separate,
// the neighbours of what was read are among them.
func (m *Memory) Touched() (read, written []Range, err error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 8192*pagemapEntry)
	for _, r := range m.files {
		b, err := m.Slice(r.Base, r.Size)
		if err != nil {
			return nil, nil, err
		}
		// SAFETY: only the number is used.
		first := int64(uintptr(unsafe.Pointer(&b[0])) / PageSize)
		for at := uint64(0); at < r.Size; {
			entries := buf[:min(uint64(len(buf)), (r.Size-at)/PageSize*pagemapEntry)]
			if _, err := f.ReadAt(entries, (first+int64(at/PageSize))*pagemapEntry); err != nil {
				return nil, nil, err
			}
			for ; len(entries) > 0; entries = entries[pagemapEntry:] {
				switch e := binary.NativeEndian.Uint64(entries); {
				case e&(pagemapPresent|pagemapSwapped) == 0:
				case e&pagemapFile == 0:
					written = appendPage(written, r.Base+at)
				default:
					read = appendPage(read, r.Base+at)
				}
				at += PageSize
			}
		}
	}
	return read, written, nil
}

// Separate has the kernel map what MapFile mapped page by page, as it is touched: it maps 16
// pages around one that is read otherwise, as far as they belong to the same mapping. Here
// each page is one of its own, until Join. A process has some 65 000 mappings at most
// (vm.max_map_count); where that does not do, all is as before.
func (m *Memory) Separate() error {
	for _, r := range m.files {
		b, err := m.Slice(r.Base, r.Size)
		if err != nil {
			return err
		}
		// The file is in the page cache, or read page by page: either is fine here.
		for at := PageSize; at < len(b); at += 2 * PageSize {
			if err := unix.Madvise(b[at:at+PageSize], unix.MADV_RANDOM); err != nil {
				return errors.Join(os.NewSyscallError("madvise", err), m.Join())
			}
		}
	}
	return nil
}

// Join takes Separate back. What is mapped stays so.
func (m *Memory) Join() error {
	for _, r := range m.files {
		b, err := m.Slice(r.Base, r.Size)
		if err != nil {
			return err
		}
		if err := unix.Madvise(b, unix.MADV_NORMAL); err != nil {
			return os.NewSyscallError("madvise", err)
		}
	}
	return nil
}

// appendPage adds the page at addr to ascending ranges.
func appendPage(list []Range, addr uint64) []Range {
	if n := len(list); n > 0 && list[n-1].Base+list[n-1].Size == addr {
		list[n-1].Size += PageSize
		return list
	}
	return append(list, Range{Base: addr, Size: PageSize})
}
