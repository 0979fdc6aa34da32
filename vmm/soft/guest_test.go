package soft

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
)

// Where things are in the tests' guest. Tables and data are linear addresses too.
const (
	ramSize  = 1 << 20
	pml4     = 0x1000
	codeAddr = 0x10000
	dataAddr = 0x20000
	highBase = 0xffff800000000000 // where the kernel half maps the same RAM
)

// guest is a vCPU as the hypervisor shows it, over real memory.
type guest struct {
	mem      *memory.Memory
	regs     hv.Registers
	sys      hv.SystemRegisters
	xcr0     uint64
	xsave    []byte // scratch that XSAVE returns
	state    []byte // what the processor holds
	cpuid    []hv.CPUIDEntry
	injected []exception
	err      error // of every call, if set
	nextPage uint64
}

var _ hv.VCPU = (*guest)(nil)

func (g *guest) Registers() (hv.Registers, error)             { return g.regs, g.err }
func (g *guest) SetRegisters(r hv.Registers) error            { g.regs = r; return g.err }
func (g *guest) SystemRegisters() (hv.SystemRegisters, error) { return g.sys, g.err }
func (g *guest) SetSystemRegisters(s hv.SystemRegisters) error {
	g.sys = s
	return g.err
}
func (g *guest) XCR0() (uint64, error)   { return g.xcr0, g.err }
func (g *guest) CPUID() []hv.CPUIDEntry  { return g.cpuid }
func (g *guest) XSAVE() ([]byte, error)  { copy(g.xsave, g.state); return g.xsave, g.err }
func (g *guest) SetXSAVE(b []byte) error { copy(g.state, b); return g.err }
func (g *guest) MSR(i uint32) (uint64, error) {
	if i == msrTSC {
		return 0x1122334455667788, g.err
	}
	return uint64(i), g.err
}

func (g *guest) InjectException(vector uint8, hasCode bool, code uint32) error {
	g.injected = append(g.injected, exception{vector: vector, hasCode: hasCode, code: code})
	return g.err
}

func (g *guest) Run() (*hv.Exit, error)         { return nil, errors.ErrUnsupported }
func (g *guest) Kick()                          {}
func (g *guest) Asleep() (bool, error)          { return false, errors.ErrUnsupported }
func (g *guest) SetCPUID([]hv.CPUIDEntry) error { return errors.ErrUnsupported }
func (g *guest) SetMSRs([]hv.MSR) error         { return errors.ErrUnsupported }
func (g *guest) SetXCR0(uint64) error           { return errors.ErrUnsupported }
func (g *guest) SetFPU(uint16, uint32) error    { return errors.ErrUnsupported }
func (g *guest) SaveState() ([]byte, error)     { return nil, errors.ErrUnsupported }
func (g *guest) RestoreState([]byte) error      { return errors.ErrUnsupported }
func (g *guest) PreFault(uint64, uint64) error  { return errors.ErrUnsupported }
func (g *guest) TellPaused() error              { return errors.ErrUnsupported }
func (g *guest) Close() error                   { return nil }

const imageSize = 4096

// newGuest is a processor in supervisor mode, 64-bit, whose RAM is mapped one to one with
// 4 KiB pages, writable and for everyone, and again at highBase.
func newGuest(t testing.TB) *guest {
	t.Helper()
	mem, err := memory.New([]memory.Range{{Base: 0, Size: ramSize}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, mem.Close()) })
	g := &guest{mem: mem, xcr0: 0xe7, xsave: make([]byte, imageSize), state: make([]byte, imageSize), injected: make([]exception, 0, 4)}
	g.regs = hv.Registers{RIP: codeAddr, RSP: 0x8000, RAX: 7, RFLAGS: 2}
	g.sys = hv.SystemRegisters{CR0: 1 | cr0PG | cr0WP | cr0MP, CR3: pml4, CR4: 1<<5 | cr4OSFXSR | cr4OSXSAVE, EFER: 1<<8 | eferLMA | eferNXE}
	g.sys.CS = hv.Segment{L: 1, Present: 1, S: 1, Type: 11, G: 1}
	g.cpuid = []hv.CPUIDEntry{
		{Function: 0xd, Index: 0, Indexed: true, EAX: 0xe7},
		{Function: 0xd, Index: 1, Indexed: true},
		{Function: 0xd, Index: 2, Indexed: true, EAX: 256, EBX: 576},
		{Function: 0xd, Index: 5, Indexed: true, EAX: 64, EBX: 832},
		{Function: 0xd, Index: 6, Indexed: true, EAX: 512, EBX: 896},
		{Function: 0xd, Index: 7, Indexed: true, EAX: 1024, EBX: 1408},
		{Function: 0x80000008, EAX: 48},
	}
	image(g.state).reset(^uint64(0), &limits{})
	binary.LittleEndian.PutUint32(g.state[xMXCSR:], initialMXCSR)
	binary.LittleEndian.PutUint32(g.state[xMXCSRMask:], 0xffff)
	g.nextPage = pml4 + memory.PageSize
	for addr := uint64(0); addr < ramSize; addr += memory.PageSize {
		g.mapPage(t, addr, addr|entryPresent|entryWritable|entryUser)
	}
	first, err := mem.Word64(pml4)
	require.NoError(t, err)
	g.setEntry(t, pml4+8*(highBase>>39&511), first.Load())
	return g
}

func (g *guest) entry(t testing.TB, at uint64) uint64 {
	t.Helper()
	w, err := g.mem.Word64(at)
	require.NoError(t, err)
	return w.Load()
}

func (g *guest) setEntry(t testing.TB, at, e uint64) {
	t.Helper()
	w, err := g.mem.Word64(at)
	require.NoError(t, err)
	require.True(t, w.CompareAndSwap(w.Load(), e))
}

// slot is where the entry of addr at a level, 0 for pages, is; tables in between are made.
func (g *guest) slot(t testing.TB, addr uint64, level int) uint64 {
	t.Helper()
	table := uint64(pml4)
	for l := levels - 1; l > level; l-- {
		at := table + addr>>(12+9*l)&511*8
		if g.entry(t, at)&entryPresent == 0 {
			g.setEntry(t, at, g.nextPage|entryPresent|entryWritable|entryUser)
			g.nextPage += memory.PageSize
		}
		table = g.entry(t, at) & entryAddress
	}
	return table + addr>>(12+9*level)&511*8
}

// mapPage sets the last entry on the way to addr.
func (g *guest) mapPage(t testing.TB, addr, e uint64) {
	t.Helper()
	g.setEntry(t, g.slot(t, addr, 0), e)
}

// write puts bytes at a physical address.
func (g *guest) write(t testing.TB, addr uint64, b ...byte) {
	t.Helper()
	require.NoError(t, g.mem.WriteAt(b, addr))
}

// bytes reads n bytes at a physical address.
func (g *guest) bytes(t testing.TB, addr uint64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	require.NoError(t, g.mem.ReadAt(b, addr))
	return b
}

// handle executes code at codeAddr.
func (g *guest) handle(t testing.TB, code ...byte) (bool, error) {
	t.Helper()
	g.write(t, codeAddr, code...)
	g.regs.RIP = codeAddr
	g.injected = g.injected[:0]
	return New(g.mem).Handle(g)
}

// does executes code at codeAddr, which must complete.
func (g *guest) does(t testing.TB, code ...byte) {
	t.Helper()
	ok, err := g.handle(t, code...)
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, g.injected)
	require.Equal(t, uint64(codeAddr+len(code)), g.regs.RIP)
}

// raises executes code at codeAddr, which must fault and change nothing.
func (g *guest) raises(t testing.TB, want exception, code ...byte) {
	t.Helper()
	before := g.regs
	before.RIP = codeAddr
	state := append([]byte(nil), g.state...)
	ok, err := g.handle(t, code...)
	require.NoError(t, err)
	require.True(t, ok)
	got := append([]exception(nil), g.injected...)
	for i := range got {
		if got[i].vector == vectorPageFault {
			got[i].addr = g.sys.CR2
		}
	}
	require.Equal(t, []exception{want}, got)
	require.Equal(t, before, g.regs)
	sameBytes(t, state, g.state, "extended state")
}

// sameBytes compares areas and names the first byte that differs.
func sameBytes(t testing.TB, want, got []byte, where string) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d bytes, want %d", where, len(got), len(want))
		return
	}
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("%s: byte %d is %#x, want %#x", where, i, got[i], want[i])
			return
		}
	}
}
