package soft

import (
	"encoding/binary"

	"github.com/gomsb/gomsb/vmm/memory"
)

// maxArea bounds a memory operand, bytes; the largest is an XSAVE area.
const maxArea = 16 << 10

// area is the memory operand at base. Its pages are translated before any of them is
// read or written, so that an instruction faults as a whole.
type area struct {
	base  uint64
	pages [maxArea/memory.PageSize + 1][]byte // nil as long as not asked for
}

// locate makes the memory operand of the instruction the area.
func (c *cpu) locate() {
	in := &c.in
	addr := uint64(in.disp)
	switch in.base {
	case regNone:
	case regRIP:
		addr += c.regs.RIP + uint64(in.length)
	default:
		addr += *c.reg(in.base)
	}
	if in.index != regNone {
		addr += *c.reg(in.index) << in.scale
	}
	if in.address32 {
		addr &= 0xffffffff
	}
	switch in.segment {
	case segmentFS:
		addr += c.sys.FS.Base
	case segmentGS:
		addr += c.sys.GS.Base
	}
	c.area.base = addr
}

// badAddress is the exception for an operand that is not at a canonical address.
func (c *cpu) badAddress() exception {
	if c.in.segment == segmentFlat && (c.in.base == regRSP || c.in.base == regRBP) {
		return stackFault()
	}
	return protection()
}

// reach translates the pages of the n bytes at offset off of the area; off+n is at most
// maxArea. All accesses of one instruction are of one kind.
func (c *cpu) reach(off, n uint32, kind access) bool {
	first := c.area.base + uint64(off)
	last := first + uint64(n) - 1
	if !canonical(first) || !canonical(last) || last < c.area.base { // the last: it wraps around
		return c.raise(c.badAddress())
	}
	for addr := first; ; addr = addr&^(memory.PageSize-1) + memory.PageSize {
		p := &c.area.pages[c.area.index(addr)]
		if *p == nil {
			b, ok := c.page(addr, kind)
			if !ok {
				return false
			}
			*p = b
		}
		if addr|(memory.PageSize-1) >= last {
			return true
		}
	}
}

// index is the number of the page that addr, at or above base, is in.
func (a *area) index(addr uint64) uint64 {
	return addr/memory.PageSize - a.base/memory.PageSize
}

// load copies len(dst) bytes from offset off, which have been reached.
func (a *area) load(dst []byte, off uint32) {
	for addr := a.base + uint64(off); len(dst) > 0; {
		n := copy(dst, a.pages[a.index(addr)][addr%memory.PageSize:])
		dst, addr = dst[n:], addr+uint64(n)
	}
}

// store copies src to offset off, which has been reached for writing.
func (a *area) store(src []byte, off uint32) {
	for addr := a.base + uint64(off); len(src) > 0; {
		n := copy(a.pages[a.index(addr)][addr%memory.PageSize:], src)
		src, addr = src[n:], addr+uint64(n)
	}
}

// source reads the register or memory operand of size bytes, zero-extended.
func (c *cpu) source(size int) (uint64, bool) {
	if !c.in.memory {
		return c.low(c.in.rm, size), true
	}
	c.locate()
	if !c.reach(0, uint32(size), read) {
		return 0, false
	}
	var b [8]byte
	c.area.load(b[:size], 0)
	return binary.LittleEndian.Uint64(b[:]), true
}

// low is the low part of register n, size bytes.
func (c *cpu) low(n uint8, size int) uint64 {
	if size == 1 && !c.in.rex && n >= 4 && n < 8 {
		return *c.reg(n - 4) >> 8 & 0xff // AH, CH, DH, BH
	}
	return *c.reg(n) & (^uint64(0) >> (64 - 8*size))
}
