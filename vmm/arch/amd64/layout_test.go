package amd64

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
)

func TestLayout(t *testing.T) {
	t.Parallel()
	const page, gib = memory.PageSize, 1 << 30
	for name, c := range map[string]struct {
		size uint64
		want []memory.Range
	}{
		"64 MiB":              {64 << 20, []memory.Range{{Base: 0, Size: 64 << 20}}},
		"odd number of pages": {64<<20 + 3*page, []memory.Range{{Base: 0, Size: 64<<20 + 3*page}}},
		"3 GiB":               {3 * gib, []memory.Range{{Base: 0, Size: 3 * gib}}},
		"a page below":        {HoleStart - page, []memory.Range{{Base: 0, Size: HoleStart - page}}},
		"up to the hole":      {HoleStart, []memory.Range{{Base: 0, Size: HoleStart}}},
		"a page above":        {HoleStart + page, []memory.Range{{Base: 0, Size: HoleStart}, {Base: 4 * gib, Size: page}}},
		"4 GiB":               {4 * gib, []memory.Range{{Base: 0, Size: HoleStart}, {Base: 4 * gib, Size: 768 << 20}}},
		"1 TiB":               {1 << 40, []memory.Range{{Base: 0, Size: HoleStart}, {Base: 4 * gib, Size: 1<<40 - HoleStart}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Layout(c.size)
			assert.Equal(t, c.want, got)
			sum := uint64(0)
			for _, r := range got {
				sum += r.Size
				assert.False(t, r.Base < HoleEnd && r.Base+r.Size > HoleStart, "RAM in the hole")
			}
			assert.Equal(t, c.size, sum)
		})
	}
}

func TestPluggable(t *testing.T) {
	t.Parallel()
	const mib, gib = 1 << 20, 1 << 30
	for size, base := range map[uint64]uint64{
		64 * mib: 4 * gib, HoleStart: 4 * gib, HoleStart + mib: 5 * gib, 4 * gib: 5 * gib, HoleStart + gib: 5 * gib, HoleStart + gib + mib: 6 * gib,
	} {
		assert.Equal(t, memory.Range{Base: base, Size: 6 * mib, Pluggable: true}, Pluggable(size, 6*mib), "behind %d", size)
	}
}

// TestLowMemoryMap checks that nothing that Load places overlaps anything else.
func TestLowMemoryMap(t *testing.T) {
	t.Parallel()
	parts := []struct {
		name      string
		addr, end uint64
	}{
		{"GDT", gdtAddr, gdtAddr + uint64(len(gdt()))},
		{"zero page", zeroPageAddr, zeroPageAddr + 4096},
		{"stack", stackAddr - 0xff0, stackAddr},
		{"page tables", pageTables, pageTables + uint64(len(bootPageTables()))},
		{"command line", commandLine, commandLine + MaxCommandLine + 1},
		{"MP table", mpTableAddr, mpTableAddr + uint64(len(mpTable(MaxVCPUs)))},
	}
	for i, p := range parts {
		require.Less(t, p.addr, p.end)
		assert.LessOrEqual(t, p.end, uint64(lowMemoryEnd), p.name)
		if i > 0 {
			assert.LessOrEqual(t, parts[i-1].end, p.addr, "%s overlaps %s", p.name, parts[i-1].name)
		}
	}
	assert.LessOrEqual(t, parts[len(parts)-1].end, uint64(mpTableAddr+1024), "Linux searches the last KiB below 640 KiB")
	assert.EqualValues(t, 639<<10, mpTableAddr)
}

func TestMaxMemory(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	hole := uint64(HoleEnd - HoleStart)
	for name, c := range map[string]struct {
		leaves []hv.CPUIDEntry
		want   uint64
	}{
		"not told":         {nil, 64*gib - hole},
		"39 bits":          {[]hv.CPUIDEntry{{Function: 0x80000008, EAX: 0x3027}}, 512*gib - hole},
		"48 bits":          {[]hv.CPUIDEntry{{Function: 1, EAX: 1}, {Function: 0x80000008, EAX: 0x3030}}, 1<<48 - hole},
		"two stages":       {[]hv.CPUIDEntry{{Function: 0x80000008, EAX: 0x303934}}, 1<<48 - hole},
		"nonsense, narrow": {[]hv.CPUIDEntry{{Function: 0x80000008}}, HoleStart},
		"nonsense, wide":   {[]hv.CPUIDEntry{{Function: 0x80000008, EAX: 0xffffffff}}, 1<<52 - hole},
	} {
		assert.Equal(t, c.want, MaxMemory(c.leaves), name)
	}
}
