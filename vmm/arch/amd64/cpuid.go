package amd64

import (
	"math/bits"
	"slices"

	"github.com/gomsb/gomsb/vmm/hv"
)

// CPUID register names for the masks below.
const (
	eax = iota
	ebx
	ecx
	edx
)

// mask changes one register of a leaf, for every index unless index is not negative.
type mask struct {
	function   uint32
	index      int
	register   int
	clear, set uint32
}

const anyIndex = -1

// Template is what a guest sees of its processor, as changes of what the hypervisor
// supports.
type Template struct {
	Name  string
	masks []mask
}

// hypervisor, TSC deadline and x2APIC are left clear by KVM on hardware, but all of them
// work: without the first there is no kvm-clock and calibration hangs.
var common = []mask{
	{0x1, anyIndex, ecx, 0, 1<<31 | 1<<24 | 1<<21},
}

// Default passes through what the hypervisor supports.
func Default() Template { return Template{Name: "default", masks: common} }

// Soft hides what a KVM without hardware virtualisation cannot run in guest supervisor
// mode: paravirtual features that need a hypercall, the save instructions that the
// monitor does not emulate, and string instructions that are dearer when the kernel
// believes them fast.
func Soft() Template {
	return Template{Name: "soft", masks: append(slices.Clone(common),
		mask{0x1, anyIndex, ecx, 1<<13 | 1<<23 | 1<<20, 0},       // cmpxchg16b, popcnt, sse4.2 (crc32)
		mask{0x7, 0, ebx, 1<<9 | 1<<20 | 1<<7 | 1<<10 | 1<<0, 0}, // erms, smap, smep, invpcid, fsgsbase
		mask{0x7, 0, ecx, 1<<2 | 1<<3 | 1<<16 | 1<<22, 0},        // umip, protection keys, five-level paging, rdpid
		mask{0x7, 0, edx, 1 << 4, 0},                             // fsrm
		mask{0x7, 1, eax, 1<<10 | 1<<11 | 1<<12, 0},              // fzrm, fsrs, fsrc
		mask{0xd, 1, eax, 0xf, 0},                                // xsaveopt, xsavec, xgetbv1, xsaves
		mask{0x80000001, anyIndex, edx, 1 << 27, 0},              // rdtscp
		mask{0x40000001, anyIndex, eax, 0xfec90, 0},              // features behind hypercalls
	)}
}

// CPUID is the table of processor id of n, from what the hypervisor supports.
func (t Template) CPUID(supported []hv.CPUIDEntry, id, n int) []hv.CPUIDEntry {
	out := withCores(slices.Clone(supported))
	amd := isAMD(supported)
	shift := uint32(bits.Len(uint(n - 1))) // of the APIC ID to the package
	for i := range out {
		e := &out[i]
		for _, m := range t.masks {
			if m.function == e.Function && (m.index == anyIndex || uint32(m.index) == e.Index) {
				r := [...]*uint32{&e.EAX, &e.EBX, &e.ECX, &e.EDX}[m.register]
				*r = *r&^m.clear | m.set
			}
		}
		topology(e, uint32(id), uint32(n), shift, amd)
	}
	return xsaveSizes(out)
}

// withCores adds the level of cores to the leaves of the topology, of which KVM has none
// but the level of threads.
func withCores(t []hv.CPUIDEntry) []hv.CPUIDEntry {
	for _, leaf := range []uint32{0xb, 0x1f} {
		has := func(index uint32) bool {
			return slices.ContainsFunc(t, func(e hv.CPUIDEntry) bool { return e.Function == leaf && e.Index == index })
		}
		if has(0) && !has(1) {
			t = append(t, hv.CPUIDEntry{Function: leaf, Index: 1, Indexed: true})
		}
	}
	return t
}

// isAMD reports whether leaf 0 names a processor of AMD or of its licensee Hygon.
func isAMD(t []hv.CPUIDEntry) bool {
	const authenticAMD, hygonGenuine = 0x68747541, 0x6f677948 // the first four letters
	return slices.ContainsFunc(t, func(e hv.CPUIDEntry) bool {
		return e.Function == 0 && (e.EBX == authenticAMD || e.EBX == hygonGenuine)
	})
}

// topology describes n single-threaded cores in one package whose APIC IDs are their
// numbers, and which share a cache from the third level on.
func topology(e *hv.CPUIDEntry, id, n, shift uint32, amd bool) {
	switch e.Function {
	case 0x1:
		e.EBX = e.EBX&0x0000ffff | n<<16 | id<<24
		if n > 1 {
			e.EDX |= 1 << 28 // the count in EBX is valid
		} else {
			e.EDX &^= 1 << 28
		}
	case 0x4:
		if e.EAX&0x1f != 0 {
			e.EAX = e.EAX&0x3fff | sharers(e.EAX, n)<<14 | (n-1)<<26
		}
	case 0x8000001d: // leaf 4 of AMD
		if e.EAX&0x1f != 0 {
			e.EAX = e.EAX&0x3fff | sharers(e.EAX, n)<<14
		}
	case 0xb, 0x1f:
		e.EDX = id
		switch e.Index {
		case 0:
			e.EAX, e.EBX, e.ECX = 0, 1, 1<<8
		case 1:
			e.EAX, e.EBX, e.ECX = shift, n, 2<<8|1
		default:
			e.EAX, e.EBX, e.ECX = 0, 0, e.Index
		}
	case 0x80000008:
		if amd { // reserved with others
			e.ECX = shift<<12 | (n - 1)
		}
	case 0x8000001e:
		e.EAX, e.EBX, e.ECX = id, id, 0
	}
}

// sharers is how many processors beside the first one share the cache that EAX of leaf 4
// describes.
func sharers(cache, n uint32) uint32 {
	if level := cache >> 5 & 7; level >= 3 {
		return n - 1
	}
	return 0
}

// xsaveSizes makes the sizes of leaf 0xD fit the instructions that are left: without
// the compacted format the kernel computes the size of the standard one, and distrusts
// a processor that says otherwise.
func xsaveSizes(t []hv.CPUIDEntry) []hv.CPUIDEntry {
	var features uint64
	compact := false
	for _, e := range t {
		if e.Function == 0xd && e.Index == 0 {
			features = uint64(e.EAX) | uint64(e.EDX)<<32
		}
		if e.Function == 0xd && e.Index == 1 {
			compact = e.EAX&(1<<1|1<<3) != 0
		}
	}
	size := uint32(576) // the legacy area and the header
	for _, e := range t {
		if e.Function == 0xd && e.Index >= 2 && e.Index < 63 && features&(1<<e.Index) != 0 {
			size = max(size, e.EBX+e.EAX)
		}
	}
	for i := range t {
		e := &t[i]
		switch {
		case e.Function != 0xd:
		case e.Index == 0:
			e.EBX, e.ECX = size, size
		case e.Index == 1 && !compact:
			e.EBX, e.ECX, e.EDX = 0, 0, 0
		}
	}
	return t
}
