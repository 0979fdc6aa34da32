package soft

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/memory"
)

// Bits of a page-table entry (Intel SDM vol. 3 §4.5.4).
const (
	entryPresent  = 1 << 0
	entryWritable = 1 << 1
	entryUser     = 1 << 2
	entryAccessed = 1 << 5
	entryDirty    = 1 << 6
	entryLarge    = 1 << 7
	entryNX       = 1 << 63

	entryAddress = 0x000ffffffffff000
)

// levels is how many page tables an address goes through.
const levels = 4

// access is what an instruction does at an address.
type access uint8

const (
	read access = iota
	write
	fetch
	system // an implicit read by the processor, for which the privilege level does not count
)

// canonical reports whether addr is one of the 48-bit linear addresses.
func canonical(addr uint64) bool { return uint64(int64(addr)<<16>>16) == addr }

// translate walks the page tables to the physical address of addr, which is canonical,
// and sets accessed and dirty bits.
func (c *cpu) translate(addr uint64, kind access) (uint64, bool) {
	var words [levels]memory.Word64
	var entries [levels]uint64
	writable, user := true, true
	table := c.sys.CR3 & entryAddress
	level := levels - 1
	for ; ; level-- {
		shift := 12 + 9*level
		w, err := c.mem.Word64(table + addr>>shift&511*8)
		if err != nil {
			return 0, c.fail(fmt.Errorf("%w: page table at %#x on the way to %#x, RIP %#x", ErrAddress, table, addr, c.regs.RIP))
		}
		e := w.Load()
		if e&entryPresent == 0 {
			return 0, c.raise(pageFault(addr, c.faultCode(kind)))
		}
		if c.reserved(e, level) {
			return 0, c.raise(pageFault(addr, c.faultCode(kind)|faultPresent|faultReserved))
		}
		writable = writable && e&entryWritable != 0
		user = user && e&entryUser != 0
		words[level], entries[level] = w, e
		if level == 0 || e&entryLarge != 0 {
			break
		}
		table = e & entryAddress
	}
	if !c.permitted(kind, writable, user) {
		return 0, c.raise(pageFault(addr, c.faultCode(kind)|faultPresent))
	}
	for i := level; i < levels; i++ {
		want := entries[i] | entryAccessed
		if i == level && kind == write {
			want |= entryDirty
		}
		if want != entries[i] && !words[i].CompareAndSwap(entries[i], want) {
			c.result = retried
			return 0, false
		}
	}
	offset := uint64(1)<<(12+9*level) - 1
	return entries[level]&entryAddress&^offset | addr&offset, true
}

// reserved reports whether a bit that must be zero is set in a present entry.
func (c *cpu) reserved(e uint64, level int) bool {
	if e&entryAddress>>c.limits.addressBits != 0 || e&entryNX != 0 && c.sys.EFER&eferNXE == 0 {
		return true
	}
	if level == 0 || e&entryLarge == 0 {
		return false
	}
	low := uint64(1)<<(12+9*level) - 1<<13 // below the page's address, above the PAT bit
	return level == levels-1 || e&low != 0
}

// permitted reports whether the privilege level may access a page (Intel SDM vol. 3
// §4.6). Execution is not asked about: KVM has fetched the instruction before.
func (c *cpu) permitted(kind access, writable, user bool) bool {
	supervisor := c.cpl() < 3 || kind == system
	switch {
	case !supervisor && !user:
		return false
	case supervisor && user && c.sys.CR4&cr4SMAP != 0 && kind != fetch && (kind == system || c.regs.RFLAGS&flagAC == 0):
		return false
	case kind == write && !writable:
		return supervisor && c.sys.CR0&cr0WP == 0
	}
	return true
}

// faultCode is the part of a page fault's error code that the access itself makes.
func (c *cpu) faultCode(kind access) uint32 {
	code := uint32(0)
	if c.cpl() == 3 && kind != system {
		code |= faultUser
	}
	if kind == write {
		code |= faultWrite
	}
	if kind == fetch && (c.sys.EFER&eferNXE != 0 || c.sys.CR4&cr4SMEP != 0) {
		code |= faultFetch
	}
	return code
}

// page is the host's view of the page that addr is in.
func (c *cpu) page(addr uint64, kind access) ([]byte, bool) {
	phys, ok := c.translate(addr, kind)
	if !ok {
		return nil, false
	}
	b, err := c.mem.Slice(phys&^(memory.PageSize-1), memory.PageSize)
	if err != nil {
		return nil, c.fail(fmt.Errorf("%w: %#x is at %#x, RIP %#x", ErrAddress, addr, phys, c.regs.RIP))
	}
	return b, true
}
