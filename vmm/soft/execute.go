package soft

// MSRs that RDTSCP reads.
const (
	msrTSC    = 0x10
	msrTSCAux = 0xc0000103
)

// execute carries out the instruction, which is not opUnknown. It is a switch and no
// table of functions, because calls through a table would force the cpu onto the heap.
func (c *cpu) execute() bool {
	switch c.in.op {
	case opNop:
		return true
	case opINT3:
		c.trap, c.exception = true, breakpoint
		return true
	case opFWAIT:
		return c.fwait()
	case opXSAVE:
		return c.xsave()
	case opXRSTOR:
		return c.xrstor()
	case opLDMXCSR:
		return c.ldmxcsr()
	case opSTMXCSR:
		return c.stmxcsr()
	case opXGETBV:
		return c.xgetbv()
	case opCLAC, opSTAC:
		return c.setAC(c.in.op == opSTAC)
	case opRDTSCP:
		return c.rdtscp()
	case opCLWB:
		_, ok := c.source(1) // memory is always written back
		return ok
	case opVERR, opVERW, opLAR, opLSL:
		return c.inspectSelector()
	case opPOPCNT:
		return c.popcnt()
	case opCRC32:
		return c.crc32()
	case opADCX:
		return c.addCarry(flagCF)
	case opADOX:
		return c.addCarry(flagOF)
	case opMULX:
		return c.mulx()
	case opANDN, opBLSR, opBLSMSK, opBLSI, opBZHI, opBEXTR:
		return c.bitField()
	case opPEXT, opPDEP, opSHLX, opSARX, opSHRX, opRORX:
		return c.bitMove()
	default: // opUndefined
		return c.raise(invalidOpcode)
	}
}

func (c *cpu) xgetbv() bool {
	if c.sys.CR4&cr4OSXSAVE == 0 {
		return c.raise(invalidOpcode)
	}
	if uint32(c.regs.RCX) != 0 {
		return c.raise(protection()) // there is no other without XSAVEC
	}
	v, err := c.v.XCR0()
	if err != nil {
		return c.fail(err)
	}
	c.setEDXEAX(v)
	return true
}

// setEDXEAX puts the halves of v into EDX and EAX.
func (c *cpu) setEDXEAX(v uint64) { c.regs.RDX, c.regs.RAX = v>>32, v&0xffffffff }

func (c *cpu) setAC(on bool) bool {
	if c.cpl() != 0 {
		return c.raise(invalidOpcode)
	}
	c.setFlags(flagAC, flagIf(on, flagAC))
	return true
}

func (c *cpu) rdtscp() bool {
	if c.sys.CR4&cr4TSD != 0 && c.cpl() != 0 {
		return c.raise(protection())
	}
	tsc, err := c.v.MSR(msrTSC)
	if err != nil {
		return c.fail(err)
	}
	aux, err := c.v.MSR(msrTSCAux)
	if err != nil {
		return c.fail(err)
	}
	c.setEDXEAX(tsc)
	c.regs.RCX = aux & 0xffffffff
	return true
}
