package soft

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
)

func TestBreakpointIsATrap(t *testing.T) {
	t.Parallel()
	for _, code := range [][]byte{{0xcc}, {0xcd, 3}} {
		g := newGuest(t)
		g.regs.RFLAGS |= flagRF
		ok, err := g.handle(t, code...)
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Equal(t, []exception{{vector: 3}}, g.injected)
		assert.Equal(t, uint64(codeAddr+len(code)), g.regs.RIP)
		assert.Zero(t, g.regs.RFLAGS&flagRF)
	}
}

func TestUndefined(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	for _, code := range []string{"0f ff c0", "0f b9 03", "f0 9b", "f0 f3 0f b8 c3", "f0 0f ae 23"} {
		g.raises(t, invalidOpcode, unhex(t, code)...)
	}
	user(g)
	g.raises(t, invalidOpcode, 0x90) // unknown here, so it is in a program
	g.raises(t, invalidOpcode, unhex(t, "0f 01 cb")...)
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	before := g.regs
	ok, err := g.handle(t, unhex(t, "c5 f8 77 90")...)
	assert.False(t, ok)
	require.ErrorIs(t, err, ErrUnknown)
	assert.Contains(t, err.Error(), "c5 f8 77 90")
	assert.Contains(t, err.Error(), "0x10000")
	assert.Less(t, len(err.Error()), 200)
	assert.Equal(t, before, g.regs)
	assert.Empty(t, g.injected)
}

func TestModesThatAreNotEmulated(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*hv.SystemRegisters){
		"real mode":       func(s *hv.SystemRegisters) { *s = hv.SystemRegisters{} },
		"compatibility":   func(s *hv.SystemRegisters) { s.CS.L = 0 },
		"no long mode":    func(s *hv.SystemRegisters) { s.EFER &^= eferLMA },
		"no paging":       func(s *hv.SystemRegisters) { s.CR0 &^= cr0PG },
		"five levels":     func(s *hv.SystemRegisters) { s.CR4 |= cr4LA57 },
		"protection keys": func(s *hv.SystemRegisters) { s.CR4 |= cr4PKE },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			spoil(&g.sys)
			ok, err := g.handle(t, 0x9b)
			assert.False(t, ok)
			assert.ErrorIs(t, err, ErrUnknown)
		})
	}
}

// Errors of the hypervisor come back whatever the call.
func TestHypervisorErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, code := range [][]byte{{0x9b}, xsave64, xrstor64, {0x0f, 1, 0xd0}, {0x0f, 1, 0xf9}, {0x0f, 0xae, 0x13}, {0x0f, 0xae, 0x1b}, {0xcc}, {0xf3, 0x0f, 0xb8, 0xc3}, {0x0f, 0xb9, 0x03}, {0xf3, 0x0f, 0xb8, 0x04, 0x25, 0, 0, 0, 0x70}} {
		for n := 1; ; n++ {
			g := newGuest(t)
			g.regs.RBX = dataAddr
			g.write(t, dataAddr, make([]byte, areaSize)...)
			f := &failing{guest: g, left: n, err: broken}
			g.write(t, codeAddr, code...)
			ok, err := New(g.mem).Handle(f)
			if f.left > 0 {
				require.NoError(t, err)
				require.True(t, ok)
				require.Greater(t, n, 3, "there are at least three calls")
				break
			}
			assert.False(t, ok, "% x, call %d", code, n)
			assert.ErrorIs(t, err, broken, "% x, call %d", code, n)
		}
	}
}

// failing is a guest whose hypervisor fails at the left-th call.
type failing struct {
	*guest
	left int
	err  error
}

func (f *failing) call() error {
	if f.left--; f.left == 0 {
		return f.err
	}
	return nil
}

func (f *failing) Registers() (hv.Registers, error)             { return f.regs, f.call() }
func (f *failing) SetRegisters(hv.Registers) error              { return f.call() }
func (f *failing) SystemRegisters() (hv.SystemRegisters, error) { return f.sys, f.call() }
func (f *failing) SetSystemRegisters(hv.SystemRegisters) error  { return f.call() }
func (f *failing) XCR0() (uint64, error)                        { return f.xcr0, f.call() }
func (f *failing) XSAVE() ([]byte, error)                       { return f.xsave, f.call() }
func (f *failing) SetXSAVE([]byte) error                        { return f.call() }
func (f *failing) MSR(uint32) (uint64, error)                   { return 0, f.call() }
func (f *failing) InjectException(uint8, bool, uint32) error    { return f.call() }

func TestAC(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.regs.RFLAGS |= flagCF
	g.does(t, 0x0f, 0x01, 0xcb)
	assert.Equal(t, uint64(2|flagCF|flagAC), g.regs.RFLAGS)
	g.does(t, 0x0f, 0x01, 0xca)
	assert.Equal(t, uint64(2|flagCF), g.regs.RFLAGS)
}

func TestRDTSCP(t *testing.T) {
	t.Parallel()
	code := []byte{0x0f, 0x01, 0xf9}
	g := newGuest(t)
	g.does(t, code...)
	assert.Equal(t, [3]uint64{0x55667788, 0x11223344, msrTSCAux}, [3]uint64{g.regs.RAX, g.regs.RDX, g.regs.RCX})
	g.sys.CR4 |= cr4TSD
	g.does(t, code...)
	user(g)
	g.raises(t, protection(), code...)
}

func TestCLWBAndNop(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	before := g.regs
	g.does(t, unhex(t, "f3 48 0f 1e c8")...)
	g.regs.RBX = dataAddr
	g.does(t, unhex(t, "66 0f ae 33")...)
	g.regs.RBX, g.regs.RIP = before.RBX, before.RIP
	assert.Equal(t, before, g.regs)
	g.regs.RBX = target
	g.raises(t, pageFault(target, 0), unhex(t, "66 0f ae 33")...)
}

// operands are values with something special about them, and some without.
func operands() []uint64 {
	v := []uint64{0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, 1 << 62, 1 << 63, ^uint64(0), ^uint64(1)}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		v = append(v, r.Uint64())
	}
	return v
}

func TestPOPCNT(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	for _, v := range operands() {
		for code, want := range map[string]uint64{
			"f3 48 0f b8 c3": uint64(bits.OnesCount64(v)),
			"f3 0f b8 c3":    uint64(bits.OnesCount32(uint32(v))),
			"66 f3 0f b8 c3": 0xffffffffffff0000 | uint64(bits.OnesCount16(uint16(v))),
		} {
			g.regs.RAX, g.regs.RBX, g.regs.RFLAGS = ^uint64(0), v, 2|flagStatus|flagAC
			g.does(t, unhex(t, code)...)
			assert.Equal(t, want, g.regs.RAX, "%s of %#x", code, v)
			assert.Equal(t, 2|flagAC|flagIf(want&0xff == 0, flagZF), g.regs.RFLAGS, "%s of %#x", code, v)
		}
	}
}

func TestCRC32(t *testing.T) {
	t.Parallel()
	table := crc32.MakeTable(crc32.Castagnoli)
	g := newGuest(t)
	for _, v := range operands() {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		for code, data := range map[string][]byte{
			"f2 0f 38 f0 c3":       b[:1], // BL
			"f2 0f 38 f0 c7":       b[1:2],
			"f2 40 0f 38 f0 c3":    b[:1],
			"66 f2 0f 38 f1 c3":    b[:2],
			"f2 0f 38 f1 c3":       b[:4],
			"f2 48 0f 38 f1 c3":    b[:8],
			"66 f2 48 0f 38 f1 c3": b[:8],
			"f2 48 0f 38 f1 03":    []byte("memory!!"),
			"f2 48 0f 38 f0 03":    []byte("m"),
		} {
			start := uint32(v * 3)
			g.regs.RAX, g.regs.RBX = 0xdeadbeef<<32|uint64(start), v
			if strings.HasSuffix(code, "03") {
				g.regs.RBX = dataAddr
				g.write(t, dataAddr, data...)
			}
			g.does(t, unhex(t, code)...)
			assert.Equal(t, uint64(^crc32.Update(^start, table, data)), g.regs.RAX, "%s of %#x", code, v)
		}
	}
}

func TestAddCarry(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	for _, a := range operands() {
		for _, b := range operands() {
			for _, c := range []struct {
				code       string
				flag, keep uint64
			}{{"66 48 0f 38 f6 c3", flagCF, flagOF}, {"f3 48 0f 38 f6 c3", flagOF, flagCF}} {
				for _, carry := range []uint64{0, 1} {
					g.regs.RAX, g.regs.RBX, g.regs.RFLAGS = a, b, 2|flagZF|c.keep|carry*c.flag
					g.does(t, unhex(t, c.code)...)
					sum, out := bits.Add64(a, b, carry)
					require.Equal(t, sum, g.regs.RAX)
					require.Equal(t, 2|flagZF|c.keep|out*c.flag, g.regs.RFLAGS)

					g.regs.RAX, g.regs.RBX, g.regs.RFLAGS = a, b, 2|flagZF|c.keep|carry*c.flag
					g.does(t, unhex(t, strings.Replace(c.code, " 48", "", 1))...)
					sum32, out32 := bits.Add32(uint32(a), uint32(b), uint32(carry))
					require.Equal(t, uint64(sum32), g.regs.RAX)
					require.Equal(t, 2|flagZF|c.keep|uint64(out32)*c.flag, g.regs.RFLAGS)
				}
			}
		}
	}
}

// What BMI does was taken from the manual; kvm_linux_amd64_test.go asks the processor.
func TestBMI(t *testing.T) {
	t.Parallel()
	const cf, zf, sf = flagCF, flagZF, flagSF
	for name, c := range map[string]struct {
		code     string // of eax or rax, ebx or rbx, ecx or rcx
		rbx, rcx uint64
		want     uint64
		flags    uint64 // status flags after all were set; AF and PF stay
	}{
		"andn":               {"c4 e2 e0 f2 c1", 0xff00ff00ff00ff00, 0x8234567812345678, 0x0034007800340078, 0},
		"andn, sign":         {"c4 e2 60 f2 c1", 0, 0x80000000, 0x80000000, sf},
		"andn, zero":         {"c4 e2 60 f2 c1", 0xffffffff, 0x1280000000, 0, zf},
		"blsr":               {"c4 e2 f8 f3 cb", 0x18, 0, 0x10, 0},
		"blsr of 0":          {"c4 e2 f8 f3 cb", 0, 0, 0, cf | zf},
		"blsmsk":             {"c4 e2 f8 f3 d3", 0x18, 0, 0xf, 0},
		"blsmsk of 0":        {"c4 e2 78 f3 d3", 0, 0, 0xffffffff, cf | sf},
		"blsi":               {"c4 e2 f8 f3 db", 0x18, 0, 8, cf},
		"blsi of 0":          {"c4 e2 f8 f3 db", 0, 0, 0, zf},
		"bzhi":               {"c4 e2 f0 f5 c3", ^uint64(0), 0xff08, 0xff, 0},
		"bzhi, all":          {"c4 e2 70 f5 c3", ^uint64(0), 32, 0xffffffff, cf | sf},
		"bzhi, none":         {"c4 e2 70 f5 c3", ^uint64(0), 0, 0, zf},
		"bextr":              {"c4 e2 f0 f7 c3", 0x123456789, 0x0c08, 0x567, 0},
		"bextr past the end": {"c4 e2 70 f7 c3", ^uint64(0), 0xff1c, 0xf, 0},
		"bextr, far":         {"c4 e2 70 f7 c3", ^uint64(0), 0x2040, 0, zf},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.regs.RAX, g.regs.RBX, g.regs.RCX, g.regs.RFLAGS = 0x5555, c.rbx, c.rcx, 2|flagStatus
			g.does(t, unhex(t, c.code)...)
			assert.Equal(t, c.want, g.regs.RAX)
			assert.Equal(t, 2|flagAF|flagPF|c.flags, g.regs.RFLAGS)
		})
	}
	for name, c := range map[string]struct {
		code     string
		rbx, rcx uint64
		want     uint64
	}{
		"shlx":          {"c4 e2 f1 f7 c3", 0x81, 63 + 64, 1 << 63},
		"shlx, 32":      {"c4 e2 71 f7 c3", 0x181, 31 + 32, 1 << 31},
		"shrx":          {"c4 e2 f3 f7 c3", 1 << 63, 63, 1},
		"shrx, 32":      {"c4 e2 73 f7 c3", 0xf80000000, 31, 1},
		"sarx":          {"c4 e2 f2 f7 c3", 1 << 63, 62, ^uint64(1)},
		"sarx, 32":      {"c4 e2 72 f7 c3", 0x80000000, 31, 0xffffffff},
		"rorx":          {"c4 e3 fb f0 c3 04", 0x123456789abcdef0, 0, 0x0123456789abcdef},
		"rorx, 32":      {"c4 e3 7b f0 c3 24", 0x123456789abcdef0, 0, 0x09abcdef},
		"rorx by 0":     {"c4 e3 fb f0 c3 40", 0x123456789abcdef0, 0, 0x123456789abcdef0},
		"pext":          {"c4 e2 e2 f5 c1", 0x123456789abcdef0, 0xff00fff0, 0x9adef},
		"pdep":          {"c4 e2 e3 f5 c1", 0x9adef, 0xff00fff0, 0x9a00def0},
		"pext, nothing": {"c4 e2 e2 f5 c1", ^uint64(0), 0, 0},
		"pdep, all, 32": {"c4 e2 63 f5 c1", 0x1234567890, ^uint64(0), 0x34567890},
		"mulx, low":     {"c4 e2 fb f6 cb", 1 << 63, 0, 0x8000000000000000}, // rcx:rax = rdx * rbx
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.regs.RAX, g.regs.RBX, g.regs.RCX, g.regs.RDX, g.regs.RFLAGS = 0x5555, c.rbx, c.rcx, 7, 2|flagStatus
			g.does(t, unhex(t, c.code)...)
			assert.Equal(t, c.want, g.regs.RAX)
			assert.Equal(t, uint64(2|flagStatus), g.regs.RFLAGS)
		})
	}
}

func TestMULX(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	for _, a := range operands() {
		for _, b := range operands() {
			g.regs.RDX, g.regs.RBX = a, b
			g.does(t, unhex(t, "c4 e2 fb f6 cb")...) // mulx rcx, rax, rbx
			high, low := bits.Mul64(a, b)
			require.Equal(t, [2]uint64{high, low}, [2]uint64{g.regs.RCX, g.regs.RAX})
			g.does(t, unhex(t, "c4 e2 7b f6 cb")...)
			high32, low32 := bits.Mul32(uint32(a), uint32(b))
			require.Equal(t, [2]uint64{uint64(high32), uint64(low32)}, [2]uint64{g.regs.RCX, g.regs.RAX})
			g.does(t, unhex(t, "c4 e2 fb f6 c3")...) // both to rax
			require.Equal(t, high, g.regs.RAX)
		}
	}
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	const (
		gdt, ldt = 0x30000, 0x31000
		verr     = "0f 00 e3"
		verw     = "0f 00 eb"
		lar      = "0f 02 c3"
		lsl      = "0f 03 c3"
	)
	// Descriptors with the limit 0x12345 bytes or, with G, pages.
	code, data := uint64(0x00a19a0000002345), uint64(0x00c1920000002345)
	level3 := uint64(3) << 45
	for name, c := range map[string]struct {
		descriptor uint64
		selector   uint16
		cpl        uint8
		good       string // instructions
		limit      uint64
	}{
		"data":                      {data, 8, 0, "verr verw lar lsl", 0x12345fff},
		"read-only data":            {data &^ (2 << 40), 8, 0, "verr lar lsl", 0x12345fff},
		"bytes":                     {data &^ (1 << 55), 8, 0, "verr verw lar lsl", 0x12345},
		"code":                      {code, 8, 0, "verr lar lsl", 0x12345fff},
		"execute-only code":         {code &^ (2 << 40), 8, 0, "lar lsl", 0x12345fff},
		"not present":               {data &^ (1 << 47), 8, 0, "verr verw lar lsl", 0x12345fff},
		"of the kernel, by RPL 3":   {data, 11, 0, "", 0},
		"of the kernel, for a user": {data, 8, 3, "", 0},
		"of users":                  {data | level3, 11, 3, "verr verw lar lsl", 0x12345fff},
		"conforming":                {code | 4<<40, 11, 3, "verr lar lsl", 0x12345fff},
		"LDT":                       {0x0001820000002345, 8, 0, "lar lsl", 0x12345},
		"TSS":                       {0x0001890000002345, 8, 0, "lar lsl", 0x12345},
		"busy TSS":                  {0x00018b0000002345, 8, 0, "lar lsl", 0x12345},
		"call gate":                 {0x00018c0000002345, 8, 0, "lar", 0},
		"interrupt gate":            {0x00018e0000002345, 8, 0, "", 0},
		"16-bit TSS":                {0x0001810000002345, 8, 0, "", 0},
		"TSS for a user":            {0x0001890000002345, 11, 3, "", 0},
		"null":                      {data, 3, 0, "", 0},
		"over the limit":            {data, 16, 0, "", 0},
		"last of all":               {data, 0xfff8, 0, "", 0},
		"in the LDT":                {data, 12, 0, "verr verw lar lsl", 0x12345fff},
		"first in the LDT":          {data, 4, 0, "verr verw lar lsl", 0x12345fff},
		"over the LDT's limit":      {data, 20, 0, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.sys.GDT = hv.DescriptorTable{Base: gdt, Limit: 15}
			g.sys.LDT = hv.Segment{Base: ldt, Limit: 15, Present: 1, S: 0, Type: 2}
			g.sys.SS.DPL = c.cpl
			for _, at := range []uint64{gdt + 8, gdt + 16, ldt, ldt + 8, ldt + 16} {
				g.write(t, at, binary.LittleEndian.AppendUint64(nil, c.descriptor)...)
			}
			for name, insn := range map[string]string{"verr": verr, "verw": verw, "lar": lar, "lsl": lsl} {
				good := strings.Contains(c.good, name)
				g.regs.RAX, g.regs.RBX, g.regs.RFLAGS = 0x5555, 0xabcd0000|uint64(c.selector), 2|flagCF|flagSF|flagIf(!good, flagZF)
				g.does(t, unhex(t, insn)...)
				assert.Equal(t, 2|flagCF|flagSF|flagIf(good, flagZF), g.regs.RFLAGS, name)
				want := uint64(0x5555)
				if good && name == "lar" {
					want = c.descriptor >> 32 & 0xf0ff00
				}
				if good && name == "lsl" {
					want = c.limit
				}
				assert.Equal(t, want, g.regs.RAX, name)
			}
		})
	}
}

func TestSelectorFaults(t *testing.T) {
	t.Parallel()
	lar := []byte{0x0f, 0x02, 0x03}
	g := newGuest(t)
	g.sys.GDT = hv.DescriptorTable{Base: target + 0xffc - 8, Limit: 0xffff}
	g.regs.RBX = dataAddr
	g.write(t, dataAddr, 8, 0)
	user(g)
	g.raises(t, pageFault(target+0xffc, 0), lar...) // as the processor, not as the user
	g.mapPage(t, target, 0x30000|entryPresent)
	g.raises(t, pageFault(target+0x1000, 0), lar...)
	g.regs.RBX = target + 0x2000
	g.raises(t, pageFault(target+0x2000, faultUser), lar...)
	g.regs.RBX = dataAddr
	g.sys.GDT.Base = 1 << 63
	g.raises(t, protection(), lar...)
	g.write(t, dataAddr, 12, 0)
	g.sys.LDT = hv.Segment{Unusable: 1, Limit: 0xffff}
	g.regs.RFLAGS |= flagZF
	g.does(t, lar...)
	assert.Zero(t, g.regs.RFLAGS&flagZF, "there is no LDT")
	g.sys.LDT = hv.Segment{Base: 0x30000, Limit: 0xffffffff, Present: 1}
	g.write(t, dataAddr, 0xfc, 0xff)
	g.does(t, lar...)
}

func TestHandleDoesNotAllocate(t *testing.T) {
	for name, code := range map[string][]byte{
		"fwait": {0x9b}, "xsave": xsave64, "xrstor": xrstor64, "int3": {0xcc}, "ud1": {0x0f, 0xb9, 0x03}, "popcnt": loadRBX,
		"lar": {0x0f, 0x02, 0x03}, "fault": {0xf3, 0x0f, 0xb8, 0x04, 0x25, 0, 0, 0, 0x70}, "xgetbv": {0x0f, 0x01, 0xd0}, "bmi": unhex(t, "c4 e2 e2 f5 03"),
		"too long": []byte(strings.Repeat("\x66", 15)),
	} {
		g := newGuest(t)
		g.regs.RBX = dataAddr
		g.write(t, codeAddr, code...)
		e := New(g.mem)
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			g.regs.RIP, g.regs.RAX, g.regs.RDX = codeAddr, 0xffffffff, 0xffffffff
			g.regs.RCX = 0
			g.injected = g.injected[:0]
			if ok, err := e.Handle(g); !ok || err != nil {
				t.Error(ok, err)
			}
		}), name)
	}
}
