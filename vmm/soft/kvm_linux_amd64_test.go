package soft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	host "golang.org/x/sys/cpu"

	"github.com/gomsb/gomsb/vmm/arch/amd64"
	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/hv/kvm"
	"github.com/gomsb/gomsb/vmm/hv/kvmtest"
	"github.com/gomsb/gomsb/vmm/memory"
)

// Where the real guest has its tables; the rest is as in newGuest.
const (
	realGDT   = 0x30000
	realTSS   = 0x30800
	realIDT   = 0x31000
	realStubs = 0x32000
	realStack = 0x40000
	dataSize  = 0x8000

	vectorPort = 0x80 // and up: an exception
	donePort   = 0xb0

	ioPrivilege = 3 << 12 // in RFLAGS: user code may use ports. KVM may hide it.
)

// real is a virtual processor of this host's KVM. Its supervisor code is emulated where
// the host has no hardware for virtualization, its user code never is: so the processor
// itself says what an instruction does.
type real struct {
	hv.VCPU
	t    *testing.T
	mem  *memory.Memory
	e    *Emulator
	sys  hv.SystemRegisters
	xcr0 uint64

	hardware bool
	emulated int // instructions by Handle
}

// newReal must be called on a locked thread, which is then the vCPU's.
func newReal(t *testing.T) *real {
	t.Helper()
	kvmtest.Need(t)
	k, err := kvm.Open("")
	require.NoError(t, err)
	defer func() { require.NoError(t, k.Close()) }()
	vm, err := k.CreateVM()
	require.NoError(t, err)
	g := newGuest(t)
	t.Cleanup(func() { require.NoError(t, vm.Close()) })
	require.NoError(t, vm.MapMemory(0, 0, g.mem.Regions()[0].Host))
	v, err := vm.CreateVCPU(0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	supported, err := k.SupportedCPUID()
	require.NoError(t, err)
	table := amd64.Soft().CPUID(supported, 0, 1)
	require.NoError(t, v.SetCPUID(table))
	r := &real{VCPU: v, t: t, mem: g.mem, e: New(g.mem), hardware: k.Hardware()}

	gdt := []uint64{0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff, 0x00008b000000ffff | realTSS<<16&0xffffff0000, 0}
	for i, d := range gdt {
		g.write(t, realGDT+8*uint64(i), binary.LittleEndian.AppendUint64(nil, d)...)
	}
	g.write(t, realTSS+4, binary.LittleEndian.AppendUint64(nil, realStack)...) // RSP0
	for v := range uint64(32) {
		stub := realStubs + 16*v
		g.write(t, realIDT+16*v, binary.LittleEndian.AppendUint64(nil, stub&0xffff|8<<16|0x8e00<<32|stub>>16<<48)...)
		g.write(t, stub, 0xe6, vectorPort+byte(v), 0xf4) // out
	}
	r.sys, err = v.SystemRegisters()
	require.NoError(t, err)
	s := &r.sys
	s.CR0, s.CR3, s.CR4, s.EFER = g.sys.CR0|1<<4|1<<5, g.sys.CR3, g.sys.CR4|1<<10, g.sys.EFER|1 // NE, OSXMMEXCPT
	s.GDT, s.IDT = hv.DescriptorTable{Base: realGDT, Limit: 55}, hv.DescriptorTable{Base: realIDT, Limit: 511}
	s.TR = hv.Segment{Base: realTSS, Limit: 103, Selector: 0x28, Type: 11, Present: 1}
	r.setLevel(0)
	for _, e := range table {
		if e.Function == 0xd && e.Index == 0 {
			r.xcr0 = uint64(e.EAX) & 0xe7
		}
	}
	require.NotZero(t, r.xcr0&stateAVX, "the host has no AVX")
	require.NoError(t, v.SetXCR0(r.xcr0))
	return r
}

// setLevel selects supervisor mode, 0, or user mode, 3.
func (r *real) setLevel(level uint8) {
	r.t.Helper()
	code := hv.Segment{Limit: 0xffffffff, Selector: 8, Type: 11, Present: 1, S: 1, L: 1, G: 1}
	data := hv.Segment{Limit: 0xffffffff, Selector: 16, Type: 3, Present: 1, S: 1, DB: 1, G: 1}
	if level == 3 {
		code.Selector, code.DPL, data.Selector, data.DPL = 0x23, 3, 0x1b, 3
	}
	s := r.sys
	s.CS, s.SS, s.DS, s.ES, s.FS, s.GS = code, data, data, data, data, data
	s.FS.Base, s.GS.Base = dataAddr-0x1000, dataAddr+0x1000
	require.NoError(r.t, r.SetSystemRegisters(s))
}

// end is what an instruction left behind.
type end struct {
	vector int // -1 for none
	code   uint64
	cr2    uint64
	rip    uint64 // at the exception
	regs   hv.Registers
	data   []byte
	state  image
}

// run executes code at a privilege level, up to its end or an exception.
func (r *real) run(level uint8, code []byte, regs hv.Registers, state, data []byte) end {
	r.t.Helper()
	r.setLevel(level)
	require.NoError(r.t, r.mem.WriteAt(append(append([]byte{}, code...), 0xe6, donePort, 0xf4), codeAddr))
	require.NoError(r.t, r.mem.WriteAt(data, dataAddr))
	require.NoError(r.t, r.SetXSAVE(state))
	regs.RIP, regs.RFLAGS = codeAddr, regs.RFLAGS|2|ioPrivilege
	require.NoError(r.t, r.SetRegisters(regs))
	deadline := time.AfterFunc(10*time.Second, r.Kick)
	defer deadline.Stop()
	for {
		x, err := r.Run()
		require.NoError(r.t, err)
		switch x.Reason {
		case hv.ExitInternalError:
			ok, err := r.e.Handle(r)
			require.NoError(r.t, err, "% x at level %d", code, level)
			require.True(r.t, ok)
			r.emulated++
		case hv.ExitIO:
			return r.end(x)
		default:
			require.FailNow(r.t, "unexpected exit", "% x at level %d: %+v", code, level, x)
		}
	}
}

func (r *real) end(x *hv.Exit) end {
	r.t.Helper()
	out := end{vector: int(x.Port) - vectorPort, data: make([]byte, dataSize)}
	var err error
	out.regs, err = r.Registers()
	require.NoError(r.t, err)
	state, err := r.XSAVE()
	require.NoError(r.t, err)
	out.state = append(image(nil), state...)
	l := limits{}
	l.read(r.CPUID())
	out.state.settle(&l)
	require.NoError(r.t, r.mem.ReadAt(out.data, dataAddr))
	for _, m := range []image{out.state, out.data, out.data[dataSize/2:]} {
		m.forgetUse(&l)
	}
	if x.Port == donePort {
		out.vector = -1
		return out
	}
	frame := make([]byte, 16)
	require.NoError(r.t, r.mem.ReadAt(frame, out.regs.RSP))
	out.rip = binary.LittleEndian.Uint64(frame)
	if v := out.vector; v == vectorPageFault || v == vectorProtection || v == vectorStack {
		out.code, out.rip = out.rip&^faultUser, binary.LittleEndian.Uint64(frame[8:])
	}
	if out.vector == vectorPageFault {
		s, err := r.SystemRegisters()
		require.NoError(r.t, err)
		out.cr2 = s.CR2 &^ (memory.PageSize - 1) // some probe the first byte, some the last
	}
	out.regs.RSP, out.regs.RIP, out.regs.RFLAGS = 0, 0, 0 // they are the handler's
	return out
}

// forgetUse clears the bits of components with initial values: whether such a component
// counts as in use is up to the processor.
func (m image) forgetUse(l *limits) {
	for bv := m.stateBV(); bv != 0; bv &= bv - 1 {
		bit := bv & -bv
		initial := append(image(nil), m...)
		initial.reset(bit, l)
		if bytes.Equal(initial, m) {
			m.setStateBV(m.stateBV() &^ bit)
		}
	}
}

// agree runs code on both levels and compares.
func (r *real) agree(name string, code []byte, regs hv.Registers, state, data []byte, ignored uint64) end {
	r.t.Helper()
	user := r.run(3, code, regs, state, data)
	kernel := r.run(0, code, regs, state, data)
	where := fmt.Sprintf("%s: % x", name, code)
	sameBytes(r.t, user.data, kernel.data, where+": data")
	sameBytes(r.t, user.state, kernel.state, where+": state")
	if !r.hardware && user.vector == vectorUndefined && kernel.vector == vectorProtection {
		user.vector = vectorProtection // such hosts tell users so for some instructions
	}
	ignored |= ioPrivilege
	user.regs.RFLAGS, kernel.regs.RFLAGS = user.regs.RFLAGS&^ignored, kernel.regs.RFLAGS&^ignored
	result := kernel
	user.data, user.state, kernel.data, kernel.state = nil, nil, nil, nil
	assert.Equal(r.t, user, kernel, where)
	return result
}

// state is a random extended state with all components in use.
func (r *real) state(rnd *rand.Rand) []byte {
	b, err := r.XSAVE()
	require.NoError(r.t, err)
	m := image(append([]byte(nil), b...))
	for i := range m {
		if i < xMXCSR || i >= xST && i < xXMMEnd || i >= xHeaderEnd {
			m[i] = byte(rnd.Uint32())
		}
	}
	m[5] = 0 // reserved
	m[xFSW] &^= 0xbf
	m[xFSW+1] &= 0x3f // and busy, which follows
	binary.LittleEndian.PutUint16(m, initialFCW)
	clear(m[6:xMXCSR]) // without an exception, processors forget its place
	for st := xST; st < xXMM; st += 16 {
		clear(m[st+10 : st+16])
	}
	binary.LittleEndian.PutUint32(m[xMXCSR:], 0x1f80|rnd.Uint32()&0x3f)
	m.setStateBV(r.xcr0)
	return m
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

func TestProcessorAgreesOnIntegers(t *testing.T) {
	onThread(t, func() {
		r := newReal(t)
		rnd := rand.New(rand.NewPCG(3, 4))
		state, data := r.state(rnd), make([]byte, dataSize)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		undefined := uint64(flagAF | flagPF)
		for _, c := range []struct {
			name, code string
			has        bool
			ignored    uint64
		}{
			{"popcnt", "f3 48 0f b8 c1", host.X86.HasPOPCNT, 0}, {"popcnt", "f3 0f b8 c1", host.X86.HasPOPCNT, 0}, {"popcnt", "66 f3 0f b8 c1", host.X86.HasPOPCNT, 0},
			{"popcnt", "f3 48 0f b8 03", host.X86.HasPOPCNT, 0}, {"popcnt fs", "64 f3 48 0f b8 83 00 10 00 00", host.X86.HasPOPCNT, 0}, {"popcnt gs", "65 f3 48 0f b8 83 00 f0 ff ff", host.X86.HasPOPCNT, 0},
			{"popcnt rip", "f3 48 0f b8 05 00 00 00 00", host.X86.HasPOPCNT, 0}, {"popcnt 32-bit address", "67 f3 48 0f b8 44 8b 10", host.X86.HasPOPCNT, 0},
			{"crc32", "f2 0f 38 f0 c1", host.X86.HasSSE42, 0}, {"crc32", "f2 0f 38 f0 c5", host.X86.HasSSE42, 0}, {"crc32", "f2 40 0f 38 f0 c5", host.X86.HasSSE42, 0},
			{"crc32", "66 f2 0f 38 f1 c1", host.X86.HasSSE42, 0}, {"crc32", "f2 0f 38 f1 c1", host.X86.HasSSE42, 0}, {"crc32", "f2 48 0f 38 f1 c1", host.X86.HasSSE42, 0}, {"crc32", "f2 48 0f 38 f1 43 03", host.X86.HasSSE42, 0},
			{"adcx", "66 48 0f 38 f6 c1", host.X86.HasADX, 0}, {"adcx", "66 0f 38 f6 c1", host.X86.HasADX, 0}, {"adcx", "66 0f 38 f6 03", host.X86.HasADX, 0},
			{"adox", "f3 48 0f 38 f6 c1", host.X86.HasADX, 0}, {"adox", "f3 0f 38 f6 c1", host.X86.HasADX, 0},
			{"andn", "c4 e2 f0 f2 c2", host.X86.HasBMI1, undefined}, {"andn", "c4 e2 70 f2 c2", host.X86.HasBMI1, undefined}, {"andn", "c4 e2 f0 f2 03", host.X86.HasBMI1, undefined},
			{"blsr", "c4 e2 f8 f3 c9", host.X86.HasBMI1, undefined}, {"blsr", "c4 e2 78 f3 c9", host.X86.HasBMI1, undefined},
			{"blsmsk", "c4 e2 f8 f3 d1", host.X86.HasBMI1, undefined}, {"blsmsk", "c4 e2 78 f3 d1", host.X86.HasBMI1, undefined},
			{"blsi", "c4 e2 f8 f3 d9", host.X86.HasBMI1, undefined}, {"blsi", "c4 e2 78 f3 d9", host.X86.HasBMI1, undefined},
			{"bextr", "c4 e2 f0 f7 c2", host.X86.HasBMI1, undefined | flagSF}, {"bextr", "c4 e2 70 f7 c2", host.X86.HasBMI1, undefined | flagSF},
			{"bzhi", "c4 e2 f0 f5 c2", host.X86.HasBMI2, undefined}, {"bzhi", "c4 e2 70 f5 c2", host.X86.HasBMI2, undefined},
			{"pext", "c4 e2 f2 f5 c2", host.X86.HasBMI2, 0}, {"pext", "c4 e2 72 f5 c2", host.X86.HasBMI2, 0}, {"pdep", "c4 e2 f3 f5 c2", host.X86.HasBMI2, 0}, {"pdep", "c4 e2 73 f5 03", host.X86.HasBMI2, 0},
			{"mulx", "c4 e2 fb f6 c9", host.X86.HasBMI2, 0}, {"mulx", "c4 e2 7b f6 c9", host.X86.HasBMI2, 0}, {"mulx", "c4 42 fb f6 03", host.X86.HasBMI2, 0},
			{"shlx", "c4 e2 f1 f7 c2", host.X86.HasBMI2, 0}, {"shlx", "c4 e2 71 f7 c2", host.X86.HasBMI2, 0}, {"sarx", "c4 e2 f2 f7 c2", host.X86.HasBMI2, 0}, {"sarx", "c4 e2 72 f7 c2", host.X86.HasBMI2, 0},
			{"shrx", "c4 e2 f3 f7 c2", host.X86.HasBMI2, 0}, {"shrx", "c4 e2 73 f7 c2", host.X86.HasBMI2, 0}, {"rorx", "c4 e3 fb f0 c2 47", host.X86.HasBMI2, 0}, {"rorx", "c4 e3 7b f0 05 10 00 00 00 13", host.X86.HasBMI2, 0},
			{"xgetbv", "31 c9 0f 01 d0", true, 0}, {"xgetbv of none", "0f 01 d0", true, 0}, {"ud1", "0f b9 03", true, 0}, {"ud0", "0f ff 03", true, 0}, {"lock", "f0 f3 48 0f b8 c1", true, 0},
			{"popcnt of a missing page", "f3 0f b8 04 25 00 00 00 70", host.X86.HasPOPCNT, 0},
		} {
			if !c.has {
				continue
			}
			for range 40 {
				pick := func() uint64 {
					if v := operands(); rnd.Uint32()&1 != 0 {
						return v[rnd.IntN(len(v))]
					}
					return rnd.Uint64() >> rnd.IntN(60)
				}
				regs := hv.Registers{RAX: pick(), RCX: pick() | 2, RDX: pick(), RBX: dataAddr + 0x100, RSI: pick(), RDI: pick(), RSP: 0x8000, R9: pick(), R11: dataAddr + 0xffc, RFLAGS: rnd.Uint64() & flagStatus}
				if c.name == "popcnt 32-bit address" {
					regs.RBX, regs.RCX = dataAddr|1<<40, 1<<32+0x20
				}
				r.agree(c.name, unhex(t, c.code), regs, state, data, c.ignored)
				if t.Failed() {
					return
				}
			}
		}
		if !r.hardware {
			assert.Greater(t, r.emulated, 1000, "the host has no hardware for virtualization")
		}
	})
}

func TestProcessorAgreesOnState(t *testing.T) {
	onThread(t, func() {
		r := newReal(t)
		rnd := rand.New(rand.NewPCG(5, 6))
		for i := range 60 {
			data := make([]byte, dataSize)
			in := r.state(rnd)
			copy(data, in)
			image(data).setStateBV(rnd.Uint64() & r.xcr0)
			for j := xHeaderEnd; j < xHeaderEnd+0xa00; j++ {
				data[j] = byte(rnd.Uint32())
			}
			mask := rnd.Uint64()
			switch rnd.IntN(8) {
			case 0: // a fault
				data[[]int{xMXCSR + 2, xHeader + 7, xHeader + 8, xHeader + 15, xHeader + 16, xHeader + 23}[rnd.IntN(6)]] |= 0x81
			case 1:
				mask = ^uint64(0)
			}
			regs := hv.Registers{RAX: mask, RDX: mask >> 32, RBX: dataAddr, RSP: 0x8000, RCX: 0x123}
			if rnd.IntN(10) == 0 {
				regs.RBX++
			}
			state := r.state(rnd)
			for _, c := range []struct{ name, code string }{
				{"xsave64", "48 0f ae 23"}, {"xrstor64", "48 0f ae 2b"}, {"fwait", "9b"}, {"ldmxcsr", "0f ae 53 18"}, {"stmxcsr", "0f ae 5b 18"},
				{"xrstor, xsave, fwait", "48 0f ae 2b 48 0f ae a3 00 40 00 00 9b"},
			} {
				r.agree(fmt.Sprintf("%d, mask %#x of %#x, %s", i, mask&r.xcr0, image(data).stateBV(), c.name), unhex(t, c.code), regs, state, data, 0)
				if t.Failed() {
					return
				}
			}
		}
		if !r.hardware {
			assert.Greater(t, r.emulated, 400)
		}
	})
}

func TestProcessorAgreesOnPageFaults(t *testing.T) {
	onThread(t, func() {
		rnd := rand.New(rand.NewPCG(7, 8))
		for name, c := range map[string]struct {
			entry uint64
			code  string
			want  int
		}{
			"write":             {dataAddr + 0x1000 | all, "48 0f ae a3 40 0e 00 00", -1},
			"write, read-only":  {dataAddr + 0x1000 | entryPresent | entryUser, "48 0f ae a3 40 0f 00 00", vectorPageFault},
			"write, missing":    {0, "48 0f ae a3 40 0f 00 00", vectorPageFault},
			"read, missing":     {0, "48 0f ae ab 40 0f 00 00", vectorPageFault},
			"read, read-only":   {dataAddr | entryPresent | entryUser, "48 0f ae 6b 00", -1},
			"write, whole page": {dataAddr + 0x1000 | entryPresent | entryUser, "48 0f ae a3 00 10 00 00", vectorPageFault},
			"reserved":          {dataAddr + 0x1000 | all | 1<<51, "48 0f ae a3 00 10 00 00", vectorPageFault},
		} {
			r := newReal(t) // a new one, because nothing here flushes its TLB
			g := &guest{mem: r.mem}
			state, data := r.state(rnd), make([]byte, dataSize)
			copy(data, state)
			before := r.mem.Regions()[0].Host[dataAddr : dataAddr+dataSize]
			g.setEntry(t, g.slot(t, dataAddr+0x1000, 0), c.entry)
			regs := hv.Registers{RAX: 7, RBX: dataAddr, RSP: 0x8000}
			got := r.agree(name, unhex(t, c.code), regs, state, data, 0)
			assert.Equal(t, c.want, got.vector, name)
			if c.want >= 0 {
				sameBytes(t, data, before, name)
			}
		}
	})
}

// User code is no witness here: where KVM emulates, it answers the #GP of a user with #UD.
func TestAddressesThatAreNotCanonicalOnKVM(t *testing.T) {
	onThread(t, func() {
		r := newReal(t)
		state := r.state(rand.New(rand.NewPCG(13, 14)))
		for code, want := range map[string]int{"f3 41 0f b8 00": vectorProtection, "f3 0f b8 45 00": vectorStack, "41 0f ae 20": vectorProtection} {
			got := r.run(0, unhex(t, code), hv.Registers{RSP: 0x8000, RBP: 1 << 62, R8: 1 << 50}, state, make([]byte, dataSize))
			assert.Equal(t, want, got.vector, code)
			assert.Equal(t, uint64(codeAddr), got.rip)
		}
	})
}

func TestBreakpointOnKVM(t *testing.T) {
	onThread(t, func() {
		r := newReal(t)
		rnd := rand.New(rand.NewPCG(9, 10))
		got := r.run(0, []byte{0x90, 0xcc, 0x90}, hv.Registers{RSP: 0x8000}, r.state(rnd), make([]byte, dataSize))
		assert.Equal(t, vectorBreakpoint, got.vector)
		assert.Equal(t, uint64(codeAddr+2), got.rip)
	})
}

func TestHandleOnKVMDoesNotAllocate(t *testing.T) {
	onThread(t, func() {
		r := newReal(t)
		rnd := rand.New(rand.NewPCG(11, 12))
		r.run(0, unhex(t, "48 0f ae 23"), hv.Registers{RAX: 7, RBX: dataAddr, RSP: 0x8000}, r.state(rnd), make([]byte, dataSize))
		code := unhex(t, "9b 48 0f ae 23 48 0f ae 2b 9b")
		require.NoError(t, r.mem.WriteAt(code, codeAddr))
		assert.Zero(t, testing.AllocsPerRun(50, func() {
			regs := hv.Registers{RAX: 7, RBX: dataAddr, RSP: 0x8000, RIP: codeAddr, RFLAGS: 2}
			if err := r.SetRegisters(regs); err != nil {
				t.Error(err)
			}
			for range 4 {
				if ok, err := r.e.Handle(r.VCPU); !ok || err != nil {
					t.Error(ok, err)
				}
			}
		}))
	})
}
