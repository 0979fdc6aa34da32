package soft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
)

var (
	// ErrUnknown reports an instruction, or a mode of the processor, that neither KVM nor
	// this package executes. The message has the address and the bytes.
	ErrUnknown = errors.New("instruction is not emulated")
	// ErrAddress reports a page table, or data of an emulated instruction, that is not
	// in RAM.
	ErrAddress = errors.New("guest page tables lead out of RAM")
)

// Emulator executes single instructions of one guest. It has no state of its own: any
// number of vCPUs may use it at the same time, each on its own thread.
type Emulator struct{ mem *memory.Memory }

// New returns an emulator of guests whose RAM is mem.
func New(mem *memory.Memory) *Emulator { return &Emulator{mem: mem} }

// Handle executes the instruction at RIP, or gives the guest the exception that it
// raises, and reports whether it did. It must be called between two Runs of v by the
// goroutine that owns it, and does not allocate unless it fails. Otherwise the error
// wraps ErrUnknown, ErrAddress or what the hypervisor reported, and the guest has not
// changed but for accessed and dirty bits.
func (e *Emulator) Handle(v hv.VCPU) (bool, error) {
	c := cpu{mem: e.mem, v: v}
	var err error
	if c.regs, err = v.Registers(); err != nil {
		return false, err
	}
	if c.sys, err = v.SystemRegisters(); err != nil {
		return false, err
	}
	c.limits.read(v.CPUID())
	c.step()
	return c.finish()
}

// step fetches, decodes and executes.
func (c *cpu) step() {
	if err := c.supported(); err != nil {
		c.fail(err)
		return
	}
	c.fetch()
	in, verdict := decode(c.code[:c.fetched])
	if verdict == truncated {
		return // as fetch ended
	}
	c.result, c.err, c.in = running, nil, in
	switch {
	case verdict == tooLong:
		c.raise(protection())
	case in.op == opUnknown && c.cpl() == 3:
		c.raise(invalidOpcode) // as KVM does: a program must not end its machine
	case in.op == opUnknown:
		c.fail(c.unknown("unknown"))
	default:
		if c.execute() {
			c.result = completed
		}
	}
}

// fetch reads the bytes from RIP up to maxLength or to the first page that does not let
// it, which ends the instruction if it needs more.
func (c *cpu) fetch() {
	for c.fetched < maxLength {
		addr := c.regs.RIP + uint64(c.fetched)
		if !canonical(addr) {
			c.raise(protection())
			return
		}
		page, ok := c.page(addr, fetch)
		if !ok {
			return
		}
		c.fetched += copy(c.code[c.fetched:], page[addr%memory.PageSize:])
	}
}

// finish makes the result the vCPU's.
func (c *cpu) finish() (bool, error) {
	switch c.result {
	case completed:
		c.regs.RIP += uint64(c.in.length)
		c.regs.RFLAGS &^= flagRF
		if err := c.v.SetRegisters(c.regs); err != nil {
			return false, err
		}
		if !c.trap {
			return true, nil
		}
	case faulted:
		if c.exception.vector == vectorPageFault {
			c.sys.CR2 = c.exception.addr
			if err := c.v.SetSystemRegisters(c.sys); err != nil {
				return false, err
			}
		}
	case retried:
		return true, nil
	default:
		return false, c.err
	}
	x := c.exception
	if err := c.v.InjectException(x.vector, x.hasCode, x.code); err != nil {
		return false, err
	}
	return true, nil
}

// supported reports whether the processor is in a mode whose instructions this package
// knows.
func (c *cpu) supported() error {
	switch {
	case c.sys.EFER&eferLMA == 0 || c.sys.CS.L == 0 || c.sys.CR0&cr0PG == 0:
		return c.unknown("not in 64-bit mode")
	case c.sys.CR4&cr4LA57 != 0:
		return c.unknown("five levels of page tables")
	case c.sys.CR4&cr4PKE != 0:
		return c.unknown("protection keys are on")
	}
	return nil
}

// unknown is an error about the instruction at RIP, with its bytes as far as they are
// known.
func (c *cpu) unknown(why string) error {
	code := slices.Clone(c.code[:c.fetched]) // a copy, so that c can stay on the stack
	return fmt.Errorf("%w: % x at %#x: %s", ErrUnknown, code, c.regs.RIP, why)
}
