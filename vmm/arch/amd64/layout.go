package amd64

import (
	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
)

// The guest-physical map.
const (
	gdtAddr      = 0x500
	zeroPageAddr = 0x7000
	stackAddr    = 0x8ff0
	pageTables   = 0x9000 // PML4, PDPT, PD: three pages
	commandLine  = 0x20000
	mpTableAddr  = 0x9fc00 // the extended BIOS data area, up to lowMemoryEnd
	lowMemoryEnd = 0xa0000
	highMemory   = 0x100000

	// HoleStart to HoleEnd is free of RAM: devices and interrupt controllers.
	HoleStart = 0xd0000000
	HoleEnd   = 1 << 32

	// MaxCommandLine is the longest kernel command line, bytes without the final NUL.
	MaxCommandLine = 0x10000 - 1

	// MaxVCPUs is how many processors the MP table has room for.
	MaxVCPUs = 32
)

// defaultAddressBits is the width of physical addresses where CPUID does not tell.
const defaultAddressBits = 36

// MaxAddress is where the guest-physical addresses of a host with the supported CPUID
// table end (leaf 0x80000008; AMD APM vol. 3, Linux's KVM CPUID interface).
func MaxAddress(supported []hv.CPUIDEntry) uint64 {
	width := uint32(defaultAddressBits)
	for _, e := range supported {
		if e.Function == 0x80000008 {
			width = e.EAX & 0xff
			if guest := e.EAX >> 16 & 0xff; guest != 0 { // two-stage paging reaches less far
				width = min(width, guest)
			}
		}
	}
	return 1 << min(max(width, 32), 52)
}

// MaxMemory is how many bytes of RAM fit below MaxAddress.
func MaxMemory(supported []hv.CPUIDEntry) uint64 {
	return MaxAddress(supported) - (HoleEnd - HoleStart)
}

// pluggableAlign is the alignment of pluggable memory, bytes: a multiple of the 128 MiB
// that Linux takes at once, and what it maps with one entry where it can.
const pluggableAlign = 1 << 30

// Pluggable is where n more bytes of memory may come later than size bytes of RAM: behind
// them and the hole.
func Pluggable(size, n uint64) memory.Range {
	ram := Layout(size)
	end := max(HoleEnd, ram[len(ram)-1].Base+ram[len(ram)-1].Size)
	return memory.Range{Base: (end + pluggableAlign - 1) / pluggableAlign * pluggableAlign, Size: n, Pluggable: true}
}

// Layout spreads size bytes of RAM, whole pages, around the hole below 4 GiB.
func Layout(size uint64) []memory.Range {
	if size <= HoleStart {
		return []memory.Range{{Base: 0, Size: size}}
	}
	return []memory.Range{{Base: 0, Size: HoleStart}, {Base: HoleEnd, Size: size - HoleStart}}
}
