package soft

// operation names what an instruction does.
type operation uint8

const (
	opUnknown   operation = iota
	opUndefined           // raises #UD on every processor
	opNop
	opFWAIT
	opINT3
	opLDMXCSR
	opSTMXCSR
	opXSAVE
	opXRSTOR
	opXGETBV
	opCLAC
	opSTAC
	opRDTSCP
	opCLWB
	opVERR
	opVERW
	opLAR
	opLSL
	opPOPCNT
	opCRC32
	opADCX
	opADOX
	opANDN
	opBLSR
	opBLSMSK
	opBLSI
	opBZHI
	opPEXT
	opPDEP
	opMULX
	opBEXTR
	opSHLX
	opSARX
	opSHRX
	opRORX
)

// hasModRM reports whether a ModRM byte follows the opcode. It is right for what classify
// knows; nobody asks about the rest.
func (in *instruction) hasModRM() bool {
	switch in.table {
	case table0F:
		switch in.opcode {
		case 0x00, 0x01, 0x02, 0x03, 0x1e, 0xae, 0xb8, 0xb9, 0xff:
			return true
		}
		return false
	case table0F38, table0F3A:
		return true
	}
	return false
}

// hasImmediate reports whether a byte follows ModRM, likewise.
func (in *instruction) hasImmediate() bool {
	return in.table == table0F3A || in.table == table1 && in.opcode == 0xcd
}

// classify names the operation of an instruction that is decoded otherwise.
func (in *instruction) classify() operation {
	op := opUnknown
	switch {
	case in.vex:
		return in.classifyVEX()
	case in.table == table1:
		op = in.classify1()
	case in.table == table0F:
		op = in.classify0F()
	case in.table == table0F38:
		op = in.classify0F38()
	}
	if op != opUnknown && in.lock {
		return opUndefined // none of them may be locked
	}
	return op
}

func (in *instruction) classify1() operation {
	switch {
	case in.opcode == 0x9b:
		return opFWAIT
	case in.opcode == 0xcc, in.opcode == 0xcd && in.immediate == vectorBreakpoint:
		return opINT3
	}
	return opUnknown
}

func (in *instruction) classify0F() operation {
	switch in.opcode {
	case 0x00:
		switch in.reg & 7 {
		case 4:
			return opVERR
		case 5:
			return opVERW
		}
	case 0x01:
		if !in.memory {
			return in.classify0F01()
		}
	case 0x02:
		return opLAR
	case 0x03:
		return opLSL
	case 0x1e:
		if in.mandatory == prefixF3 && !in.memory && in.reg&7 == 1 {
			return opNop // RDSSP without shadow stacks
		}
	case 0xae:
		if in.memory {
			return in.classify0FAE()
		}
	case 0xb8:
		if in.mandatory == prefixF3 {
			return opPOPCNT
		}
	case 0xb9, 0xff: // UD1, UD0
		return opUndefined
	}
	return opUnknown
}

func (in *instruction) classify0F01() operation {
	if in.mandatory != prefixNone {
		return opUnknown
	}
	switch in.reg&7<<3 | in.rm&7 {
	case 0o12:
		return opCLAC
	case 0o13:
		return opSTAC
	case 0o20:
		return opXGETBV
	case 0o71:
		return opRDTSCP
	}
	return opUnknown
}

func (in *instruction) classify0FAE() operation {
	switch in.mandatory {
	case prefixNone:
		switch in.reg & 7 {
		case 2:
			return opLDMXCSR
		case 3:
			return opSTMXCSR
		case 4, 6:
			return opXSAVE // and XSAVEOPT, which may save everything
		case 5:
			return opXRSTOR
		}
	case prefix66:
		if in.reg&7 == 6 {
			return opCLWB
		}
	}
	return opUnknown
}

func (in *instruction) classify0F38() operation {
	switch {
	case in.opcode&^1 == 0xf0 && in.mandatory == prefixF2:
		return opCRC32
	case in.opcode == 0xf6 && in.mandatory == prefix66:
		return opADCX
	case in.opcode == 0xf6 && in.mandatory == prefixF3:
		return opADOX
	}
	return opUnknown
}

func (in *instruction) classifyVEX() operation {
	if in.long {
		return opUnknown
	}
	switch in.table {
	case table0F38:
		return in.classifyVEX0F38()
	case table0F3A:
		if in.opcode == 0xf0 && in.mandatory == prefixF2 && in.vvvv == 0 {
			return opRORX
		}
	}
	return opUnknown
}

func (in *instruction) classifyVEX0F38() operation {
	byPrefix := func(none, p66, f3, f2 operation) operation {
		return [...]operation{none, p66, f3, f2}[in.mandatory&3]
	}
	switch in.opcode {
	case 0xf2:
		return byPrefix(opANDN, opUnknown, opUnknown, opUnknown)
	case 0xf3:
		if in.mandatory != prefixNone {
			return opUnknown
		}
		switch in.reg & 7 {
		case 1:
			return opBLSR
		case 2:
			return opBLSMSK
		case 3:
			return opBLSI
		}
	case 0xf5:
		return byPrefix(opBZHI, opUnknown, opPEXT, opPDEP)
	case 0xf6:
		return byPrefix(opUnknown, opUnknown, opUnknown, opMULX)
	case 0xf7:
		return byPrefix(opBEXTR, opSHLX, opSARX, opSHRX)
	}
	return opUnknown
}
