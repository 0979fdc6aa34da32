package amd64

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
)

// ones is a table of a KVM that supports everything: all bits are set but where a leaf
// holds numbers.
func ones(vendor uint32, leaves ...uint32) []hv.CPUIDEntry {
	table := []hv.CPUIDEntry{{Function: 0, EAX: 0x1f, EBX: vendor}}
	for _, l := range leaves {
		table = append(table, hv.CPUIDEntry{Function: l, EAX: ^uint32(0), EBX: ^uint32(0), ECX: ^uint32(0), EDX: ^uint32(0)})
	}
	return table
}

func leaf(t testing.TB, table []hv.CPUIDEntry, function, index uint32) hv.CPUIDEntry {
	t.Helper()
	for _, e := range table {
		if e.Function == function && e.Index == index {
			return e
		}
	}
	require.Fail(t, "no leaf", "%#x.%d", function, index)
	return hv.CPUIDEntry{}
}

const (
	intel = 0x756e6547 // "Genu"
	amd   = 0x68747541 // "Auth"
)

// features are leaves that hold only feature bits in the registers that matter here.
var features = []uint32{0x1, 0x7, 0xd, 0x40000001, 0x80000001}

func TestDefaultTemplate(t *testing.T) {
	t.Parallel()
	supported := ones(intel, features...)
	supported[1].ECX = 1 // SSE3 and nothing else
	before := slices.Clone(supported)
	got := Default().CPUID(supported, 0, 1)
	assert.Equal(t, before, supported, "what is supported stays")
	assert.EqualValues(t, 1|1<<21|1<<24|1<<31, leaf(t, got, 1, 0).ECX, "x2APIC, TSC deadline, hypervisor")
	for _, f := range []uint32{0x7, 0x40000001, 0x80000001} {
		assert.Equal(t, leaf(t, supported, f, 0), leaf(t, got, f, 0))
	}
}

// TestSoftTemplate lists every feature that the soft profile hides.
func TestSoftTemplate(t *testing.T) {
	t.Parallel()
	supported := ones(amd, features...)
	for _, f := range []uint32{7, 0xd} {
		e := leaf(t, supported, f, 0)
		e.Index = 1
		supported = append(supported, e)
	}
	def, soft := Default().CPUID(supported, 0, 1), Soft().CPUID(supported, 0, 1)
	hidden := func(a, b uint32) (bits []int) {
		for i := range 32 {
			if (a^b)>>i&1 != 0 {
				assert.Zero(t, b>>i&1, "the soft profile only takes away")
				bits = append(bits, i)
			}
		}
		return bits
	}
	got := map[string][]int{}
	for i, a := range def {
		b := soft[i]
		if a.Function == 0xd && a.Index == 0 {
			continue // sizes
		}
		for name, bits := range map[string][]int{
			"EAX": hidden(a.EAX, b.EAX), "ECX": hidden(a.ECX, b.ECX), "EDX": hidden(a.EDX, b.EDX), "EBX": hidden(a.EBX, b.EBX),
		} {
			if bits != nil && !(a.Function == 0xd && name != "EAX") {
				got[fmt.Sprintf("%x.%d.%s", a.Function, a.Index, name)] = bits
			}
		}
	}
	assert.Equal(t, map[string][]int{
		"1.0.ECX":        {13, 20, 23},      // CMPXCHG16B, SSE4.2, POPCNT
		"7.0.EBX":        {0, 7, 9, 10, 20}, // FSGSBASE, SMEP, ERMS, INVPCID, SMAP
		"7.0.ECX":        {2, 3, 16, 22},    // UMIP, PKU, LA57, RDPID
		"7.0.EDX":        {4},               // FSRM
		"7.1.EAX":        {10, 11, 12},      // FZRM, FSRS, FSRC
		"d.1.EAX":        {0, 1, 2, 3},      // XSAVEOPT, XSAVEC, XGETBV1, XSAVES
		"80000001.0.EDX": {27},              // RDTSCP
		"40000001.0.EAX": {4, 7, 10, 11, 13, 14, 15, 16, 17, 18, 19},
	}, got)
	assert.Equal(t, []string{"default", "soft"}, []string{Default().Name, Soft().Name})
	assert.Equal(t, def, Default().CPUID(supported, 0, 1), "making one template does not change the other")
}

func TestTopology(t *testing.T) {
	t.Parallel()
	// The leaves of KVM, which has one level of 0xb, and of one with more.
	kvm := []hv.CPUIDEntry{
		{Function: 1, EBX: 0x07ff0800, EDX: 1 << 28},
		{Function: 4, Index: 0, Indexed: true, EAX: 0xfc004121},
		{Function: 4, Index: 3, Indexed: true, EAX: 0xfc0fc163},
		{Function: 4, Index: 4, Indexed: true, EAX: 0},
		{Function: 0xb, Index: 0, Indexed: true, EDX: 77},
		{Function: 0x80000008, EAX: 0x3030, ECX: 0x701f},
		{Function: 0x8000001d, Index: 0, Indexed: true, EAX: 0x121 | 1<<14},
		{Function: 0x8000001d, Index: 3, Indexed: true, EAX: 0x163 | 1<<14},
		{Function: 0x8000001d, Index: 4, Indexed: true},
		{Function: 0x8000001e, EAX: 9, EBX: 0x109, ECX: 0x301},
	}
	deep := append(slices.Clone(kvm),
		hv.CPUIDEntry{Function: 0xb, Index: 1, Indexed: true, EAX: 5, EBX: 24, ECX: 0x201, EDX: 77},
		hv.CPUIDEntry{Function: 0xb, Index: 2, Indexed: true, EAX: 9, EBX: 99, ECX: 0x502, EDX: 77},
		hv.CPUIDEntry{Function: 0x1f, Index: 0, Indexed: true, EAX: 1, EBX: 2, ECX: 0x100, EDX: 77},
	)
	shifts := map[int]uint32{1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 8: 3, 9: 4, 16: 4, 17: 5, 31: 5, 32: 5}
	for n, shift := range shifts {
		for _, vendor := range []uint32{amd, intel} {
			for _, supported := range [][]hv.CPUIDEntry{kvm, deep} {
				supported := append([]hv.CPUIDEntry{{Function: 0, EAX: 0x1f, EBX: vendor}}, supported...)
				for _, id := range []int{0, n - 1} {
					got := Default().CPUID(supported, id, n)
					one := leaf(t, got, 1, 0)
					assert.EqualValues(t, 0x0800|n<<16|id<<24, one.EBX)
					assert.Equal(t, n > 1, one.EDX>>28&1 == 1, "%d", n)

					assert.EqualValues(t, 0x121|(n-1)<<26, leaf(t, got, 4, 0).EAX, "a cache of its own")
					assert.EqualValues(t, 0x163|(n-1)<<14|(n-1)<<26, leaf(t, got, 4, 3).EAX, "a cache for all")
					assert.Zero(t, leaf(t, got, 4, 4).EAX)
					assert.EqualValues(t, 0x121, leaf(t, got, 0x8000001d, 0).EAX)
					assert.EqualValues(t, 0x163|(n-1)<<14, leaf(t, got, 0x8000001d, 3).EAX)
					assert.Zero(t, leaf(t, got, 0x8000001d, 4).EAX)

					for _, f := range []uint32{0xb, 0x1f} {
						if f == 0x1f && len(supported) < 12 {
							continue
						}
						threads, cores := leaf(t, got, f, 0), leaf(t, got, f, 1)
						assert.Equal(t, hv.CPUIDEntry{Function: f, Indexed: true, EBX: 1, ECX: 0x100, EDX: uint32(id)}, threads)
						assert.Equal(t, hv.CPUIDEntry{Function: f, Index: 1, Indexed: true, EAX: shift, EBX: uint32(n), ECX: 0x201, EDX: uint32(id)}, cores)
						assert.Less(t, id, 1<<cores.EAX, "every ID is inside the package")
					}
					ext := leaf(t, got, 0x80000008, 0)
					assert.EqualValues(t, 0x3030, ext.EAX)
					if vendor == amd {
						assert.EqualValues(t, shift<<12|uint32(n-1), ext.ECX)
					} else {
						assert.EqualValues(t, 0x701f, ext.ECX, "it has no meaning with Intel")
					}
					node := leaf(t, got, 0x8000001e, 0)
					assert.EqualValues(t, []uint32{uint32(id), uint32(id), 0}, []uint32{node.EAX, node.EBX, node.ECX})
				}
			}
		}
	}
	last := leaf(t, Default().CPUID(deep, 3, 4), 0xb, 2)
	assert.Equal(t, hv.CPUIDEntry{Function: 0xb, Index: 2, Indexed: true, ECX: 2, EDX: 3}, last, "no third level")
}

func TestXSaveSizes(t *testing.T) {
	t.Parallel()
	table := func(features, compact uint32) []hv.CPUIDEntry {
		return []hv.CPUIDEntry{
			{Function: 0xd, Index: 0, Indexed: true, EAX: features, EBX: 1, ECX: 2},
			{Function: 0xd, Index: 1, Indexed: true, EAX: compact, EBX: 3, ECX: 4, EDX: 5},
			{Function: 0xd, Index: 2, Indexed: true, EAX: 256, EBX: 576},
			{Function: 0xd, Index: 5, Indexed: true, EAX: 64, EBX: 832},
			{Function: 0xd, Index: 6, Indexed: true, EAX: 512, EBX: 896},
			{Function: 0xd, Index: 7, Indexed: true, EAX: 1024, EBX: 1408},
			{Function: 0xd, Index: 9, Indexed: true, EAX: 8, EBX: 2688},
			{Function: 0xd, Index: 70, Indexed: true, EAX: 1 << 30, EBX: 1 << 30},
		}
	}
	for name, c := range map[string]struct{ features, size uint32 }{
		"x87 and SSE": {3, 576}, "AVX": {7, 832}, "AVX-512": {0xe7, 2432}, "protection keys": {0x207, 2696}, "holes": {0x87, 2432},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Soft().CPUID(table(c.features, 0xf), 0, 1)
			main, sub := leaf(t, got, 0xd, 0), leaf(t, got, 0xd, 1)
			assert.Equal(t, []uint32{c.features, c.size, c.size}, []uint32{main.EAX, main.EBX, main.ECX})
			assert.Equal(t, hv.CPUIDEntry{Function: 0xd, Index: 1, Indexed: true}, sub, "no compacted format, no size of it")
			sub = leaf(t, Default().CPUID(table(c.features, 0xf), 0, 1), 0xd, 1)
			assert.Equal(t, hv.CPUIDEntry{Function: 0xd, Index: 1, Indexed: true, EAX: 0xf, EBX: 3, ECX: 4, EDX: 5}, sub)
		})
	}
}
