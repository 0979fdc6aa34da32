package soft

import (
	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
)

// Bits of the control registers, EFER and RFLAGS (Intel SDM vol. 3 §2.3 to §2.5).
const (
	cr0MP, cr0EM, cr0TS = 1 << 1, 1 << 2, 1 << 3
	cr0WP, cr0PG        = 1 << 16, 1 << 31

	cr4TSD, cr4OSFXSR, cr4LA57, cr4OSXSAVE = 1 << 2, 1 << 9, 1 << 12, 1 << 18
	cr4SMEP, cr4SMAP, cr4PKE               = 1 << 20, 1 << 21, 1 << 22

	eferLMA, eferNXE = 1 << 10, 1 << 11

	flagCF, flagPF, flagAF, flagZF = 1 << 0, 1 << 2, 1 << 4, 1 << 6
	flagSF, flagOF, flagRF, flagAC = 1 << 7, 1 << 11, 1 << 16, 1 << 18
	// flagStatus are those that most arithmetic instructions define.
	flagStatus = flagCF | flagPF | flagAF | flagZF | flagSF | flagOF
)

// outcome is what became of an instruction.
type outcome uint8

const (
	running   outcome = iota
	completed         // it is done: RIP moves on
	faulted           // exception goes to the guest, RIP stays
	retried           // a page table changed meanwhile: the guest runs it again
	failed            // err says why
)

// cpu is a vCPU for the time of one instruction. It lives on the stack of Handle, so
// nothing may keep a pointer to it.
//
// Methods that can stop the instruction report false when they did and set result, and
// exception or err with it.
type cpu struct {
	mem    *memory.Memory
	v      hv.VCPU
	regs   hv.Registers
	sys    hv.SystemRegisters
	limits limits

	code    [maxLength]byte
	fetched int // bytes of code that are valid
	in      instruction
	area    area

	result    outcome
	trap      bool // a completed instruction raises exception
	exception exception
	err       error
}

func (c *cpu) raise(x exception) bool {
	c.result, c.exception = faulted, x
	return false
}

func (c *cpu) fail(err error) bool {
	c.result, c.err = failed, err
	return false
}

// cpl is the current privilege level; like KVM's, it is that of the stack segment.
func (c *cpu) cpl() uint8 { return c.sys.SS.DPL & 3 }

// reg is general register n in the order of instruction encodings.
func (c *cpu) reg(n uint8) *uint64 {
	r := &c.regs
	switch n & 15 {
	case 0:
		return &r.RAX
	case 1:
		return &r.RCX
	case 2:
		return &r.RDX
	case 3:
		return &r.RBX
	case 4:
		return &r.RSP
	case 5:
		return &r.RBP
	case 6:
		return &r.RSI
	case 7:
		return &r.RDI
	case 8:
		return &r.R8
	case 9:
		return &r.R9
	case 10:
		return &r.R10
	case 11:
		return &r.R11
	case 12:
		return &r.R12
	case 13:
		return &r.R13
	case 14:
		return &r.R14
	default:
		return &r.R15
	}
}

// setReg writes size bytes, 2, 4 or 8, of register n: four clear the upper half.
func (c *cpu) setReg(n uint8, v uint64, size int) {
	r := c.reg(n)
	switch size {
	case 2:
		*r = *r&^0xffff | v&0xffff
	case 4:
		*r = v & 0xffffffff
	default:
		*r = v
	}
}

// setFlags replaces the flags of mask.
func (c *cpu) setFlags(mask, v uint64) { c.regs.RFLAGS = c.regs.RFLAGS&^mask | v&mask }

// flagIf is flag if cond, else nothing.
func flagIf(cond bool, flag uint64) uint64 {
	if cond {
		return flag
	}
	return 0
}

// limits are what the guest's CPUID table says of its processor.
type limits struct {
	addressBits uint8 // of physical addresses
	components  [maxComponent + 1]component
}

// maxComponent is the last state component of the standard XSAVE format that this package
// keeps; the highest defined so far is 19.
const maxComponent = 31

// component is where a state component is in the standard format, bytes; size 0 says that
// there is none.
type component struct{ offset, size uint32 }

func (l *limits) read(table []hv.CPUIDEntry) {
	l.addressBits = 52
	for i := range table {
		switch e := &table[i]; {
		case e.Function == 0x80000008:
			if bits := uint8(e.EAX); bits >= 32 && bits <= 52 {
				l.addressBits = bits
			}
		case e.Function == 0xd && e.Index >= 2 && e.Index <= maxComponent:
			l.components[e.Index] = component{offset: e.EBX, size: e.EAX}
		}
	}
}
