package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// ELF64 constants and field offsets (System V gABI, chapters 4 and 5).
const (
	elfMagic       = "\x7fELF"
	elfHeaderSize  = 64
	elfProgSize    = 56
	elfSymSize     = 24
	elfRelaSize    = 24
	elfDynSize     = 16
	elfMaxProgs    = 64 // vmlinux has 5, libkrunfw 12
	elfMachineX86  = 62
	elfTypeExec    = 2
	elfTypeDyn     = 3
	progLoad       = 1
	progDynamic    = 2
	progExecutable = 1
)

// elfFile is the checked outline of an ELF64 little-endian x86-64 file: every
// program header's file range lies inside data.
type elfFile struct {
	data  []byte
	kind  uint16
	entry uint64
	progs []elfProg
}

type elfProg struct {
	kind, flags                      uint32
	off, vaddr, paddr, filesz, memsz uint64
}

// readELF checks the file header and reads the program headers. Section headers are
// never looked at: nothing needed to boot depends on them.
func readELF(data []byte) (*elfFile, error) {
	if len(data) < elfHeaderSize {
		return nil, fmt.Errorf("%w: ELF header", ErrTruncated)
	}
	le := binary.LittleEndian
	switch {
	case string(data[:4]) != elfMagic:
		return nil, fmt.Errorf("%w: no ELF magic", ErrFormat)
	case data[4] != 2 || data[5] != 1 || data[6] != 1:
		return nil, fmt.Errorf("%w: not a 64-bit little-endian ELF file", ErrFormat)
	case le.Uint16(data[18:]) != elfMachineX86:
		return nil, fmt.Errorf("%w: ELF machine %d, not x86-64", ErrFormat, le.Uint16(data[18:]))
	case le.Uint16(data[54:]) != elfProgSize:
		return nil, fmt.Errorf("%w: ELF program headers of %d bytes", ErrFormat, le.Uint16(data[54:]))
	}
	f := &elfFile{data: data, kind: le.Uint16(data[16:]), entry: le.Uint64(data[24:])}
	n := uint64(le.Uint16(data[56:]))
	if n == 0 || n > elfMaxProgs {
		return nil, fmt.Errorf("%w: %d ELF program headers, not 1 to %d", ErrFormat, n, elfMaxProgs)
	}
	table, err := slice(data, le.Uint64(data[32:]), n*elfProgSize)
	if err != nil {
		return nil, fmt.Errorf("ELF program headers: %w", err)
	}
	f.progs = make([]elfProg, n)
	for i := range f.progs {
		b := table[i*elfProgSize:]
		p := elfProg{
			kind: le.Uint32(b), flags: le.Uint32(b[4:]),
			off: le.Uint64(b[8:]), vaddr: le.Uint64(b[16:]), paddr: le.Uint64(b[24:]),
			filesz: le.Uint64(b[32:]), memsz: le.Uint64(b[40:]),
		}
		if p.kind == progLoad || p.kind == progDynamic {
			if _, err := slice(data, p.off, p.filesz); err != nil {
				return nil, fmt.Errorf("ELF segment %d: %w", i, err)
			}
			if p.filesz > p.memsz {
				return nil, fmt.Errorf("%w: ELF segment %d has %#x bytes in the file, %#x in memory", ErrLayout, i, p.filesz, p.memsz)
			}
		}
		f.progs[i] = p
	}
	return f, nil
}

// parseELF turns an ELF file into an Image: a shared object must be a libkrunfw
// bundle, an executable is a vmlinux.
func parseELF(data []byte) (*Image, error) {
	f, err := readELF(data)
	if err != nil {
		return nil, err
	}
	switch f.kind {
	case elfTypeDyn:
		return parseLibkrunfw(f)
	case elfTypeExec:
	default:
		return nil, fmt.Errorf("%w: ELF type %d is neither an executable nor a shared object", ErrFormat, f.kind)
	}
	img := &Image{Format: FormatELF, Entry: f.entry}
	executable := false
	for _, p := range f.progs {
		if p.kind != progLoad || p.memsz == 0 {
			continue
		}
		img.Segments = append(img.Segments, Segment{
			Addr: p.paddr, Data: data[p.off : p.off+p.filesz : p.off+p.filesz],
			MemSize: p.memsz, Offset: int64(p.off),
		})
		if p.flags&progExecutable != 0 && f.entry >= p.paddr && f.entry-p.paddr < p.filesz {
			executable = true
		}
	}
	if !executable {
		return nil, fmt.Errorf("%w: entry point %#x is in no executable segment", ErrLayout, f.entry)
	}
	return img, nil
}

// locate is the range of the file that is mapped from virtual address vaddr to the
// end of the file data of its segment; ok is false if no file data is mapped there.
func (f *elfFile) locate(vaddr uint64) (off, n uint64, ok bool) {
	for _, p := range f.progs {
		if p.kind == progLoad && vaddr >= p.vaddr && vaddr-p.vaddr < p.filesz {
			skip := vaddr - p.vaddr
			return p.off + skip, p.filesz - skip, true
		}
	}
	return 0, 0, false
}

// at is the file data that locate finds, or nil.
func (f *elfFile) at(vaddr uint64) []byte {
	off, n, ok := f.locate(vaddr)
	if !ok {
		return nil
	}
	return f.data[off : off+n : off+n]
}

// slice is data[off:off+n], or ErrTruncated; the sum may overflow.
func slice(data []byte, off, n uint64) ([]byte, error) {
	size := uint64(len(data))
	if off > size || n > size-off {
		return nil, fmt.Errorf("%w: %#x bytes at %#x in a file of %#x", ErrTruncated, n, off, size)
	}
	return data[off : off+n : off+n], nil
}

// initrdMessage is in every Linux since 5.10 that was built with
// CONFIG_BLK_DEV_INITRD, for when an initramfs is bad. An uncompressed kernel says
// nowhere else whether it can.
const initrdMessage = "nitramfs unpacking failed"

func unpacksInitrd(segments []Segment) bool {
	for _, s := range segments {
		if bytes.Contains(s.Data, []byte(initrdMessage)) {
			return true
		}
	}
	return false
}
