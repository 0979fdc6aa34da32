package kernel

import (
	"encoding/binary"
	"fmt"
)

// getKernelResult is what krunfw_get_kernel would store and return. If indirect,
// the returned pointer is the word at address pointer, else pointer itself.
type getKernelResult struct {
	load, entry, size uint64
	pointer           uint64
	indirect          bool
}

// decodeSteps bounds the number of instructions looked at; compilers emit about 14.
const decodeSteps = 64

// The x86 numbers of the registers that matter here (RDI, RSI, RDX carry the first
// three arguments), and how many registers ModRM can name without REX.
const (
	regAX, regDX, regSP = 0, 2, 4
	regBP, regSI, regDI = 5, 6, 7
	legacyRegs          = 8
)

// getKernelMachine follows which argument sits in which register and stack slot.
// Argument numbers are 1 to 3; 0 means unknown.
type getKernelMachine struct {
	regs   [legacyRegs]int
	slots  map[byte]int // by 8-bit displacement from RBP
	stored [4]uint64
	seen   [4]bool
	result getKernelResult
	loaded bool
}

// decodeGetKernel interprets the few instruction forms that C compilers generate for
// the function, with and without optimisation; addr is the address of code[0]. Any
// other instruction is an error: guessing is worse than refusing.
func decodeGetKernel(code []byte, addr uint64) (getKernelResult, error) {
	m := getKernelMachine{slots: make(map[byte]int, 3)}
	m.regs[regDI], m.regs[regSI], m.regs[regDX] = 1, 2, 3
	for step, at := 0, 0; step < decodeSteps; step++ {
		if at < len(code) && code[at] == 0xC3 { // ret
			return m.finish()
		}
		n := m.step(code[at:], addr+uint64(at))
		if n == 0 {
			if len(code)-at < 8 {
				return getKernelResult{}, fmt.Errorf("%w: %s ends without returning", ErrTruncated, getKernel)
			}
			return getKernelResult{}, fmt.Errorf("%w: unknown instruction % x in %s", ErrFormat, code[at:at+8], getKernel)
		}
		at += n
	}
	return getKernelResult{}, fmt.Errorf("%w: %s is too long", ErrFormat, getKernel)
}

// step executes the instruction at the start of code, which lies at addr, and
// returns its length, or 0 if it is none of those known.
func (m *getKernelMachine) step(code []byte, addr uint64) int {
	if len(code) >= 4 && code[0] == 0xF3 && code[1] == 0x0F && code[2] == 0x1E && code[3] == 0xFA {
		return 4 // endbr64
	}
	if len(code) >= 1 && (code[0] == 0x55 || code[0] == 0x5D || code[0] == 0x90) {
		return 1 // push rbp, pop rbp, nop
	}
	if len(code) < 3 || code[0] != 0x48 { // all others have REX.W
		return 0
	}
	op, mod, reg, rm := code[1], code[2]>>6, int(code[2]>>3&7), int(code[2]&7)
	le := binary.LittleEndian
	switch {
	case op == 0x89 && mod == 3: // mov rm, reg
		m.regs[rm] = m.regs[reg]
		return 3
	case op == 0x89 && mod == 1 && rm == regBP && len(code) >= 4: // mov [rbp+disp8], reg
		m.slots[code[3]] = m.regs[reg]
		return 4
	case op == 0x8B && mod == 1 && rm == regBP && len(code) >= 4: // mov reg, [rbp+disp8]
		m.regs[reg] = m.slots[code[3]]
		return 4
	case op == 0xC7 && mod == 0 && reg == 0 && rm != regSP && rm != regBP && len(code) >= 7:
		// mov qword [rm], imm32 sign-extended
		arg := m.regs[rm]
		if arg == 0 {
			return 0
		}
		m.stored[arg], m.seen[arg] = uint64(int64(int32(le.Uint32(code[3:])))), true
		return 7
	case (op == 0x8B || op == 0x8D) && mod == 0 && reg == regAX && rm == regBP && len(code) >= 7:
		// mov rax, [rip+disp32] or lea rax, [rip+disp32]
		m.result.pointer = addr + 7 + uint64(int64(int32(le.Uint32(code[3:]))))
		m.result.indirect, m.loaded = op == 0x8B, true
		m.regs[regAX] = 0
		return 7
	}
	return 0
}

// finish is the state at the return instruction.
func (m *getKernelMachine) finish() (getKernelResult, error) {
	if !m.seen[1] || !m.seen[2] || !m.seen[3] || !m.loaded {
		return getKernelResult{}, fmt.Errorf("%w: %s does not store load address, entry, size and return a pointer", ErrFormat, getKernel)
	}
	m.result.load, m.result.entry, m.result.size = m.stored[1], m.stored[2], m.stored[3]
	return m.result, nil
}
