package kernel

import (
	"encoding/binary"
	"fmt"
)

// A libkrunfw bundle is a shared object that exports
//
//	char *krunfw_get_kernel(size_t *load_addr, size_t *entry_addr, size_t *size)
//
// whose three stores and returned pointer describe a flat kernel image in its data
// segment. The function is decoded here instead of being called.

// Dynamic section tags and relocation types (gABI; x86-64 psABI table 4.9).
const (
	dynNull   = 0
	dynStrTab = 5
	dynSymTab = 6
	dynRela   = 7
	dynRelaSz = 8
	dynStrSz  = 10

	relaAbs64    = 1
	relaGlobDat  = 6
	relaRelative = 8

	maxDynamic = 256
	maxSymbols = 4096
	maxRelocs  = 4096
	getKernel  = "krunfw_get_kernel"
)

// symbol is an entry of the dynamic symbol table.
type symbol struct{ value, size uint64 }

// parseLibkrunfw builds the Image of a libkrunfw bundle.
func parseLibkrunfw(f *elfFile) (*Image, error) {
	dyn, err := f.dynamic()
	if err != nil {
		return nil, err
	}
	fn, err := f.lookup(dyn, getKernel)
	if err != nil {
		return nil, err
	}
	code := f.at(fn.value)
	if code == nil {
		return nil, fmt.Errorf("%w: %s has no code in the file", ErrFormat, getKernel)
	}
	if fn.size > 0 && fn.size < uint64(len(code)) {
		code = code[:fn.size]
	}
	got, err := decodeGetKernel(code, fn.value)
	if err != nil {
		return nil, err
	}
	base := got.pointer
	if got.indirect {
		if base, err = f.relocated(dyn, got.pointer); err != nil {
			return nil, err
		}
	}
	if got.size == 0 {
		return nil, fmt.Errorf("%w: libkrunfw bundle of 0 bytes", ErrFormat)
	}
	off, n, _ := f.locate(base)
	if n < got.size {
		return nil, fmt.Errorf("%w: libkrunfw bundle of %#x bytes at %#x, the file has %#x", ErrTruncated, got.size, base, n)
	}
	return &Image{Format: FormatLibkrunfw, Entry: got.entry, Segments: []Segment{{
		Addr: got.load, Data: f.data[off : off+got.size : off+got.size],
		MemSize: got.size, Offset: int64(off),
	}}}, nil
}

// dynamic reads the first PT_DYNAMIC into a tag-value map of the tags used here.
func (f *elfFile) dynamic() (map[uint64]uint64, error) {
	for _, p := range f.progs {
		if p.kind != progDynamic {
			continue
		}
		table := f.data[p.off : p.off+p.filesz]
		tags := make(map[uint64]uint64, 8)
		for n := 0; n < maxDynamic && len(table) >= elfDynSize; n++ {
			tag, value := binary.LittleEndian.Uint64(table), binary.LittleEndian.Uint64(table[8:])
			table = table[elfDynSize:]
			switch tag {
			case dynNull:
				return tags, nil
			case dynStrTab, dynSymTab, dynRela, dynRelaSz, dynStrSz:
				tags[tag] = value
			}
		}
		return nil, fmt.Errorf("%w: dynamic section without end", ErrFormat)
	}
	return nil, fmt.Errorf("%w: shared object without dynamic section", ErrFormat)
}

// lookup finds a defined dynamic symbol by name. The table's length is recorded
// nowhere but in the hash tables; like every linker's output it is taken to end
// where the string table starts, or else after maxSymbols.
func (f *elfFile) lookup(dyn map[uint64]uint64, name string) (symbol, error) {
	symtab, strtab := f.at(dyn[dynSymTab]), f.at(dyn[dynStrTab])
	if dyn[dynSymTab] == 0 || dyn[dynStrTab] == 0 || symtab == nil || strtab == nil {
		return symbol{}, fmt.Errorf("%w: shared object without symbols", ErrFormat)
	}
	if size := dyn[dynStrSz]; size < uint64(len(strtab)) {
		strtab = strtab[:size]
	}
	if dyn[dynStrTab] > dyn[dynSymTab] && dyn[dynStrTab]-dyn[dynSymTab] < uint64(len(symtab)) {
		symtab = symtab[:dyn[dynStrTab]-dyn[dynSymTab]]
	}
	le := binary.LittleEndian
	for n := 0; n < maxSymbols && len(symtab) >= elfSymSize; n++ {
		at, section := uint64(le.Uint32(symtab)), le.Uint16(symtab[6:])
		value, size := le.Uint64(symtab[8:]), le.Uint64(symtab[16:])
		symtab = symtab[elfSymSize:]
		if section == 0 || at >= uint64(len(strtab)) {
			continue
		}
		s := strtab[at:]
		if len(s) > len(name) && s[len(name)] == 0 && string(s[:len(name)]) == name {
			return symbol{value, size}, nil
		}
	}
	return symbol{}, fmt.Errorf("%w: shared object does not export %s; it is not a libkrunfw bundle", ErrFormat, name)
}

// relocated is the value the dynamic linker would put at vaddr, with the object
// loaded at address 0.
func (f *elfFile) relocated(dyn map[uint64]uint64, vaddr uint64) (uint64, error) {
	table := f.at(dyn[dynRela])
	if dyn[dynRela] == 0 || table == nil {
		return 0, fmt.Errorf("%w: shared object without relocations", ErrFormat)
	}
	if size := dyn[dynRelaSz]; size < uint64(len(table)) {
		table = table[:size]
	}
	le := binary.LittleEndian
	for n := 0; n < maxRelocs && len(table) >= elfRelaSize; n++ {
		where, info, addend := le.Uint64(table), le.Uint64(table[8:]), le.Uint64(table[16:])
		table = table[elfRelaSize:]
		if where != vaddr {
			continue
		}
		switch info & 0xFFFFFFFF {
		case relaRelative:
			return addend, nil
		case relaGlobDat, relaAbs64:
			symtab := f.at(dyn[dynSymTab])
			b, err := slice(symtab, (info>>32)*elfSymSize, elfSymSize)
			if err != nil {
				return 0, fmt.Errorf("relocation symbol: %w", err)
			}
			return le.Uint64(b[8:]) + addend, nil
		}
		return 0, fmt.Errorf("%w: relocation type %d of the bundle pointer", ErrFormat, info&0xFFFFFFFF)
	}
	return 0, fmt.Errorf("%w: the bundle pointer at %#x is not relocated", ErrFormat, vaddr)
}
