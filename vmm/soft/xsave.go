package soft

import "encoding/binary"

// stateOperand checks what XSAVE and XRSTOR have in common, locates their operand and
// finds the components that are asked for, of those that XCR0 enables.
func (c *cpu) stateOperand() (mask, xcr0 uint64, ok bool) {
	if c.sys.CR4&cr4OSXSAVE == 0 {
		return 0, 0, c.raise(invalidOpcode)
	}
	if c.sys.CR0&cr0TS != 0 {
		return 0, 0, c.raise(noDevice)
	}
	xcr0, err := c.v.XCR0()
	if err != nil {
		return 0, 0, c.fail(err)
	}
	c.locate()
	if c.area.base%xAlignment != 0 {
		return 0, 0, c.raise(protection())
	}
	return xcr0 & (c.regs.RDX<<32 | c.regs.RAX&0xffffffff), xcr0, true
}

// xsave is XSAVE and XSAVE64 (Intel SDM vol. 1 §13.7).
func (c *cpu) xsave() bool {
	mask, _, ok := c.stateOperand()
	if !ok {
		return false
	}
	m, ok := c.image()
	if !ok {
		return false
	}
	mxcsr := uint32(0)
	if mask&(stateSSE|stateAVX) != 0 {
		mxcsr = 8 // with its mask
	}
	p, ok := c.parts(mask, mxcsr, len(m))
	if !ok || !c.reachParts(&p, write) || !c.reach(xHeader, xHeaderEnd-xHeader, write) {
		return false
	}
	if !c.in.wide {
		m.narrowPointers()
	}
	for _, part := range p.list[:p.n] {
		c.area.store(m[part.offset:part.offset+part.size], part.offset)
	}
	var bv [8]byte
	c.area.load(bv[:], xHeader)
	was := binary.LittleEndian.Uint64(bv[:])
	binary.LittleEndian.PutUint64(bv[:], was&^mask|m.stateBV()&mask)
	c.area.store(bv[:], xHeader)
	return true
}

// xrstor is XRSTOR and XRSTOR64 of the standard format (Intel SDM vol. 1 §13.8).
func (c *cpu) xrstor() bool {
	mask, xcr0, ok := c.stateOperand()
	if !ok || !c.reach(xHeader, xHeaderEnd-xHeader, read) {
		return false
	}
	var header [24]byte
	c.area.load(header[:], xHeader)
	bv := binary.LittleEndian.Uint64(header[:])
	compacted := binary.LittleEndian.Uint64(header[8:])
	reserved := binary.LittleEndian.Uint64(header[16:])
	if bv&^xcr0 != 0 || compacted != 0 || reserved != 0 {
		return c.raise(protection())
	}
	m, ok := c.image()
	if !ok {
		return false
	}
	mxcsr := uint32(0)
	if mask&(stateSSE|stateAVX) != 0 {
		mxcsr = 4 // its mask is read-only
	}
	p, ok := c.parts(mask&bv, mxcsr, len(m))
	if !ok || !c.reachParts(&p, read) {
		return false
	}
	for _, part := range p.list[:p.n] {
		c.area.load(m[part.offset:part.offset+part.size], part.offset)
	}
	if m.mxcsr()&^m.mxcsrMask() != 0 {
		return c.raise(protection())
	}
	if !c.in.wide && mask&bv&stateX87 != 0 {
		m.narrowPointers()
	}
	// Initial values are written out and count as in use: left to the hypervisor, what was
	// in its buffer before has been seen to come back (AVX, while the upper halves of ZMM
	// registers are in use).
	m.reset(mask&^bv, &c.limits)
	m.setStateBV(m.stateBV() | mask)
	return c.setImage(m)
}

// narrowPointers makes the instruction and data pointers of the x87 unit 32 bits wide,
// with selectors of 0.
func (m image) narrowPointers() {
	clear(m[xFIPHigh : xFIPHigh+4])
	clear(m[xFDPHigh : xFDPHigh+4])
}

// fwait reports a pending exception of the x87 unit.
func (c *cpu) fwait() bool {
	if c.sys.CR0&cr0MP != 0 && c.sys.CR0&cr0TS != 0 {
		return c.raise(noDevice)
	}
	m, ok := c.image()
	if !ok {
		return false
	}
	if m[xFSW]&fswErrorSummary != 0 {
		return c.raise(floatError)
	}
	return true
}

// sseReady reports whether SSE instructions are enabled.
func (c *cpu) sseReady() bool {
	if c.sys.CR0&cr0EM != 0 || c.sys.CR4&cr4OSFXSR == 0 {
		return c.raise(invalidOpcode)
	}
	if c.sys.CR0&cr0TS != 0 {
		return c.raise(noDevice)
	}
	return true
}

func (c *cpu) ldmxcsr() bool {
	if !c.sseReady() {
		return false
	}
	v, ok := c.source(4)
	if !ok {
		return false
	}
	m, ok := c.image()
	if !ok {
		return false
	}
	if uint32(v)&^m.mxcsrMask() != 0 {
		return c.raise(protection())
	}
	m.setMXCSR(uint32(v))
	return c.setImage(m)
}

func (c *cpu) stmxcsr() bool {
	if !c.sseReady() {
		return false
	}
	c.locate()
	if !c.reach(0, 4, write) {
		return false
	}
	m, ok := c.image()
	if !ok {
		return false
	}
	c.area.store(m[xMXCSR:xMXCSRMask], 0)
	return true
}
