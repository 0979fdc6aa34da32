package soft

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
)

var (
	xsave64  = []byte{0x48, 0x0f, 0xae, 0x23} // [rbx]
	xsave32  = []byte{0x0f, 0xae, 0x23}
	xrstor64 = []byte{0x48, 0x0f, 0xae, 0x2b}
	xrstor32 = []byte{0x0f, 0xae, 0x2b}
)

const (
	allStates = 0xe7
	areaSize  = 2432 // of all states of the tests' guest
)

// fill makes every byte of an area tell its place, within what the fields allow, and all
// components present.
func fill(b []byte, salt byte) {
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*31 ^ salt
	}
	clear(b[xHeader:xHeaderEnd])
	clear(b[xXMMEnd:xHeader])
	b[xFSW] &^= fswErrorSummary
	binary.LittleEndian.PutUint32(b[xMXCSR:], initialMXCSR^uint32(salt&0x3f))
	binary.LittleEndian.PutUint32(b[xMXCSRMask:], 0xffff)
	binary.LittleEndian.PutUint64(b[xHeader:], allStates)
}

// states is where the bytes of each state component are, MXCSR's included.
func states(mask uint64) (set [areaSize]bool) {
	for bit, ranges := range map[uint64][][2]int{
		1 << 0: {{0, 24}, {32, 160}}, 1 << 1: {{160, 416}}, 1 << 2: {{576, 832}}, 1 << 5: {{832, 896}}, 1 << 6: {{896, 1408}}, 1 << 7: {{1408, 2432}},
	} {
		for _, r := range ranges {
			for i := r[0]; mask&bit != 0 && i < r[1]; i++ {
				set[i] = true
			}
		}
	}
	return set
}

// ask sets the mask operand.
func (g *guest) ask(mask uint64) { g.regs.RAX, g.regs.RDX = mask&0xffffffff, mask>>32 }

func TestXSAVEWritesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, mask := range []uint64{0, 1, 2, 3, 4, 5, 7, 0x20, 0xe0, 0xe7, 0xe3, ^uint64(0)} {
		g := newGuest(t)
		fill(g.state, 0)
		old := make([]byte, areaSize)
		fill(old, 0x55)
		binary.LittleEndian.PutUint64(old[xHeader:], 0x1000000000000081) // the processor does not judge it
		old[xHeader+16] = 0x77
		g.write(t, dataAddr, old...)
		g.regs.RBX = dataAddr
		g.ask(mask)
		g.does(t, xsave64...)

		got := g.bytes(t, dataAddr, areaSize)
		want := append([]byte(nil), old...)
		for i, mine := range states(mask) {
			if mine || mask&6 != 0 && i >= xMXCSR && i < xMXCSRMask+4 {
				want[i] = g.state[i]
			}
		}
		binary.LittleEndian.PutUint64(want[xHeader:], 0x1000000000000081&^(mask&allStates)|mask&allStates)
		sameBytes(t, want, got, fmt.Sprintf("mask %#x", mask))
	}
}

func TestXSAVEOfInitialStates(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	fill(g.state, 1)
	binary.LittleEndian.PutUint64(g.state[xHeader:], 0x80) // what else is in the image is stale
	g.regs.RBX = dataAddr
	old := make([]byte, areaSize)
	fill(old, 0xaa)
	g.write(t, dataAddr, old...)
	g.ask(allStates)
	g.does(t, xsave64...)
	got := g.bytes(t, dataAddr, areaSize)
	want := make([]byte, areaSize)
	want[0], want[1] = 0x7f, 0x03
	copy(want[xMXCSR:xMXCSRMask+4], []byte{0x80, 0x1f, 0, 0, 0xff, 0xff, 0, 0}) // not what is in the image
	copy(want[xXMMEnd:xHeader], old[xXMMEnd:])
	copy(want[1408:], g.state[1408:areaSize])
	want[xHeader] = 0x80
	sameBytes(t, want, got, "area")
}

func TestXRSTORReadsWhatIsAskedForAndThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ mask, bv uint64 }{
		{0, 0xe7}, {0xe7, 0xe7}, {0xe7, 0}, {1, 1}, {1, 0}, {2, 2}, {2, 0xe5}, {4, 4}, {4, 0}, {5, 1}, {0xe0, 0x40}, {0xe3, 0xe7}, {0xe7, 0x81}, {^uint64(0), 0xe7}, {^uint64(7), 0xe7},
	} {
		g := newGuest(t)
		fill(g.state, 0)
		was := append([]byte(nil), g.state...)
		in := make([]byte, areaSize)
		fill(in, 0x55)
		binary.LittleEndian.PutUint64(in[xHeader:], c.bv)
		binary.LittleEndian.PutUint32(in[xMXCSRMask:], 0xdead) // read-only
		in[xHeader+24] = 1                                     // not looked at
		g.write(t, dataAddr, in...)
		g.regs.RBX = dataAddr
		g.ask(c.mask)
		g.does(t, xrstor64...)

		want := append([]byte(nil), was...)
		load, reset := states(c.mask&c.bv), states(c.mask&^c.bv)
		for i := range areaSize {
			switch {
			case c.mask&6 != 0 && i >= xMXCSR && i < xMXCSRMask:
				want[i] = in[i]
			case load[i]:
				want[i] = in[i]
			case reset[i]:
				want[i] = 0
			}
		}
		if c.mask&^c.bv&1 != 0 {
			want[0], want[1] = 0x7f, 0x03
		}
		sameBytes(t, want, g.state, fmt.Sprintf("mask %#x of %#x", c.mask, c.bv))
	}
}

func TestXRSTORToTheBeginning(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	fill(g.state, 0x11)
	in := make([]byte, areaSize)
	binary.LittleEndian.PutUint32(in[xMXCSR:], initialMXCSR)
	g.write(t, dataAddr, in...)
	g.regs.RBX = dataAddr
	g.ask(allStates)
	g.does(t, xrstor64...)
	want := make([]byte, areaSize)
	want[0], want[1], want[xHeader] = 0x7f, 0x03, allStates
	copy(want[xMXCSR:], g.state[xMXCSR:xST])
	sameBytes(t, want, g.state[:areaSize], "state")
	assert.Equal(t, uint32(initialMXCSR), image(g.state).mxcsr())
}

// A hypervisor that keeps the compacted format forgets MXCSR if SSE is not in use.
func TestMXCSRNeedsSSE(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	in := make([]byte, areaSize)
	binary.LittleEndian.PutUint32(in[xMXCSR:], initialMXCSR|1)
	g.write(t, dataAddr, in...)
	g.regs.RBX = dataAddr
	g.ask(stateAVX)
	g.does(t, xrstor64...)
	assert.Equal(t, uint64(stateAVX|stateSSE), image(g.state).stateBV())
	binary.LittleEndian.PutUint32(in[xMXCSR:], initialMXCSR)
	g.write(t, dataAddr, in...)
	binary.LittleEndian.PutUint64(g.state[xHeader:], 0)
	g.does(t, xrstor64...)
	assert.Equal(t, uint64(stateAVX), image(g.state).stateBV())
}

func TestXSAVERoundTrip(t *testing.T) {
	t.Parallel()
	for _, addr := range []uint64{target, target + 0xfc0, target + 0xe00, target + 0x700} { // the edge of a page in each part
		g := newGuest(t)
		g.mapPage(t, target, dataAddr|all)
		g.mapPage(t, target+memory.PageSize, (dataAddr+0x8000)|all)
		fill(g.state, 0x0f)
		want := append([]byte(nil), g.state...)
		g.regs.RBX = addr
		g.ask(allStates)
		g.does(t, xsave64...)
		fill(g.state, 0x33)
		g.does(t, xrstor64...)
		sameBytes(t, want[:areaSize], g.state[:areaSize], fmt.Sprintf("%#x", addr))
	}
}

// Without REX.W the x87 pointers have 32 bits and a selector.
func TestNarrowPointers(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	fill(g.state, 0)
	state := append([]byte(nil), g.state...)
	g.regs.RBX = dataAddr
	g.ask(3)
	g.does(t, xsave32...)
	got := g.bytes(t, dataAddr, 24)
	assert.Equal(t, state[:12], got[:12])
	assert.Equal(t, make([]byte, 4), got[12:16])
	assert.Equal(t, state[16:20], got[16:20])
	assert.Equal(t, make([]byte, 4), got[20:24])
	sameBytes(t, state, g.state, "saving changed")

	in := make([]byte, areaSize)
	fill(in, 0x55)
	g.write(t, dataAddr, in...)
	g.does(t, xrstor32...)
	assert.Equal(t, in[:12], g.state[:12])
	assert.Equal(t, make([]byte, 4), g.state[12:16])
	assert.Equal(t, make([]byte, 4), g.state[20:24])

	g.ask(2)
	g.state[13] = 9
	g.does(t, xrstor32...)
	assert.Equal(t, byte(9), g.state[13], "x87 was not asked for")
}

func TestXSAVEExceptions(t *testing.T) {
	t.Parallel()
	header := func(off int, v byte) func(*testing.T, *guest) {
		return func(t *testing.T, g *guest) { g.write(t, dataAddr+xHeader+uint64(off), v) }
	}
	for name, c := range map[string]struct {
		code  []byte
		spoil func(*testing.T, *guest)
		want  exception
	}{
		"xsave without OSXSAVE":   {xsave64, func(_ *testing.T, g *guest) { g.sys.CR4 &^= cr4OSXSAVE }, invalidOpcode},
		"xrstor without OSXSAVE":  {xrstor64, func(_ *testing.T, g *guest) { g.sys.CR4 &^= cr4OSXSAVE }, invalidOpcode},
		"xsave with TS":           {xsave64, func(_ *testing.T, g *guest) { g.sys.CR0 |= cr0TS }, noDevice},
		"xrstor with TS":          {xrstor64, func(_ *testing.T, g *guest) { g.sys.CR0 |= cr0TS }, noDevice},
		"xsave, OSXSAVE first":    {xsave64, func(_ *testing.T, g *guest) { g.sys.CR4 &^= cr4OSXSAVE; g.sys.CR0 |= cr0TS }, invalidOpcode},
		"lock xsave":              {append([]byte{0xf0}, xsave64...), func(*testing.T, *guest) {}, invalidOpcode},
		"xsave, not aligned":      {xsave64, func(_ *testing.T, g *guest) { g.regs.RBX += 32 }, protection()},
		"xrstor, not aligned":     {xrstor64, func(_ *testing.T, g *guest) { g.regs.RBX++ }, protection()},
		"alignment before paging": {xrstor64, func(_ *testing.T, g *guest) { g.regs.RBX = target + 8 }, protection()},
		"state that is not on":    {xrstor64, header(1, 2), protection()},
		"state 63":                {xrstor64, header(7, 0x80), protection()},
		"compacted format":        {xrstor64, header(15, 0x80), protection()},
		"XCOMP_BV":                {xrstor64, header(8, 1), protection()},
		"reserved, first":         {xrstor64, header(16, 1), protection()},
		"reserved, last":          {xrstor64, header(23, 0x80), protection()},
		"reserved bit in MXCSR":   {xrstor64, func(t *testing.T, g *guest) { g.write(t, dataAddr+xMXCSR+2, 1) }, protection()},
		"MXCSR bit not there":     {xrstor64, func(t *testing.T, g *guest) { g.state[xMXCSRMask] = 0xbf; g.write(t, dataAddr+xMXCSR, 0xff) }, protection()},
		"MXCSR, no mask":          {xrstor64, func(t *testing.T, g *guest) { clear(g.state[xMXCSRMask:xST]); g.write(t, dataAddr+xMXCSR, 0x40) }, protection()},
		"xsave, middle missing":   {xsave64, at(0xe00, 1, 0), pageFault(target+0x1040, faultWrite)},
		"xsave, read-only middle": {xsave64, at(0xe00, 1, dataAddr|entryPresent), pageFault(target+0x1040, faultWrite|faultPresent)},
		"xsave, end missing":      {xsave64, at(0x700, 1, 0), pageFault(target+0x1000, faultWrite)},
		"xsave, all missing":      {xsave64, at(0x700, 0, 0), pageFault(target+0x700, faultWrite)},
		"xrstor, header missing":  {xrstor64, at(0xe00, 1, 0), pageFault(target+0x1000, 0)},
		"xrstor, end missing":     {xrstor64, at(0x700, 1, 0), pageFault(target+0x1000, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			fill(g.state, 0)
			in := make([]byte, areaSize)
			fill(in, 0x55)
			g.write(t, dataAddr, in...)
			g.mapPage(t, target, (dataAddr+0x8000)|all)
			g.mapPage(t, target+memory.PageSize, (dataAddr+0x9000)|all)
			g.write(t, dataAddr+0x8000+0x700, in...)
			g.regs.RBX = dataAddr
			g.ask(allStates)
			c.spoil(t, g)
			ram := append([]byte(nil), g.mem.Regions()[0].Host[dataAddr:]...)
			g.raises(t, c.want, c.code...)
			sameBytes(t, ram, g.mem.Regions()[0].Host[dataAddr:], "RAM after a store that faulted")
		})
	}
}

// at moves the operand and sets the entry of its first or second page.
func at(offset, page, entry uint64) func(*testing.T, *guest) {
	return func(t *testing.T, g *guest) {
		g.regs.RBX = target + offset
		g.mapPage(t, target+page*memory.PageSize, entry)
	}
}

// A page that holds none of the components that are asked for may be missing.
func TestXSAVETouchesNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	for _, code := range [][]byte{xsave64, xrstor64} {
		g := newGuest(t)
		fill(g.state, 0)
		in := make([]byte, xHeaderEnd)
		fill(in, 0x55)
		g.write(t, dataAddr+0x700, in...)
		g.mapPage(t, target, dataAddr|all)
		g.regs.RBX = target + 0x700 // the second page begins at byte 2304, in the last component
		g.ask(0x67)
		g.does(t, code...)
		g.regs.RBX = target + 0xfc0 // and here at byte 64
		g.ask(0)
		g.raises(t, pageFault(target+0x11c0, g.kindOf(code)), code...)
	}
}

// kindOf is the error code for a missing page.
func (g *guest) kindOf(code []byte) uint32 {
	if code[len(code)-1] == xsave64[3] {
		return faultWrite
	}
	return 0
}

// The table that the host made may be wrong: that is an error, not a crash.
func TestStatesWithoutAPlace(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*guest){
		"not in CPUID":        func(g *guest) { g.xcr0 |= 1 << 9 },
		"beyond all":          func(g *guest) { g.xcr0 |= 1 << 63 },
		"in the header":       func(g *guest) { g.cpuid[2].EBX = 512 },
		"in the legacy area":  func(g *guest) { g.cpuid[2].EBX = 0 },
		"beyond the image":    func(g *guest) { g.cpuid[2].EBX = imageSize - 1 },
		"wraps round":         func(g *guest) { g.cpuid[2].EBX, g.cpuid[2].EAX = 0xffffffff, 0xffffffff },
		"larger than an area": func(g *guest) { g.xsave = make([]byte, 1<<20); g.cpuid[2].EAX = 1 << 19 },
		"empty":               func(g *guest) { g.cpuid[2].EAX = 0 },
		"image too small":     func(g *guest) { g.xsave = g.xsave[:xHeader] },
		"no image":            func(g *guest) { g.xsave = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, code := range [][]byte{xsave64, xrstor64} {
				g := newGuest(t)
				in := make([]byte, areaSize)
				fill(in, 0)
				spoil(g)
				binary.LittleEndian.PutUint64(in[xHeader:], g.xcr0)
				g.write(t, dataAddr, in...)
				g.regs.RBX = dataAddr
				g.ask(^uint64(0))
				ok, err := g.handle(t, code...)
				assert.False(t, ok)
				assert.Error(t, err)
			}
		})
	}
}

func TestFWAIT(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.does(t, 0x9b)
	g.state[xFSW] = fswErrorSummary
	g.does(t, 0x9b) // the component is not there
	binary.LittleEndian.PutUint64(g.state[xHeader:], stateX87)
	g.raises(t, floatError, 0x9b)
	g.sys.CR0 |= cr0TS
	g.raises(t, noDevice, 0x9b)
	g.sys.CR0 &^= cr0MP
	g.raises(t, floatError, 0x9b)
}

func TestMXCSR(t *testing.T) {
	t.Parallel()
	ld, st := []byte{0x0f, 0xae, 0x13}, []byte{0x0f, 0xae, 0x1b}
	g := newGuest(t)
	g.regs.RBX = dataAddr + 0xffd
	g.write(t, g.regs.RBX, 0x80, 0x3f, 0, 0)
	g.does(t, ld...)
	assert.Equal(t, uint32(0x3f80), image(g.state).mxcsr())
	assert.Equal(t, uint64(stateSSE), image(g.state).stateBV())
	g.write(t, g.regs.RBX, 1, 2, 3, 4, 5)
	g.does(t, st...)
	assert.Equal(t, []byte{0x80, 0x3f, 0, 0, 5}, g.bytes(t, g.regs.RBX, 5))
	g.write(t, g.regs.RBX, 0, 0, 1, 0)
	g.raises(t, protection(), ld...)

	for _, code := range [][]byte{ld, st} {
		g.sys.CR0 |= cr0TS
		g.raises(t, noDevice, code...)
		g.sys.CR0 |= cr0EM
		g.raises(t, invalidOpcode, code...)
		g.sys.CR0 &^= cr0TS | cr0EM
		g.sys.CR4 &^= cr4OSFXSR
		g.raises(t, invalidOpcode, code...)
		g.sys.CR4 |= cr4OSFXSR
		g.regs.RBX = target
		g.raises(t, pageFault(target, map[byte]uint32{0x13: 0, 0x1b: faultWrite}[code[2]]), code...)
	}
}

func TestXGETBV(t *testing.T) {
	t.Parallel()
	code := []byte{0x0f, 0x01, 0xd0}
	g := newGuest(t)
	g.xcr0 = 0x4000000000000007
	g.regs.RAX, g.regs.RDX, g.regs.RCX = ^uint64(0), ^uint64(0), 0xffffffff00000000
	g.does(t, code...)
	assert.Equal(t, uint64(7), g.regs.RAX)
	assert.Equal(t, uint64(0x40000000), g.regs.RDX)
	g.regs.RCX = 1
	g.raises(t, protection(), code...)
	g.sys.CR4 &^= cr4OSXSAVE
	g.raises(t, invalidOpcode, code...)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for eax, want := range map[uint32]uint8{0x3028: 40, 52: 52, 31: 52, 53: 52, 0: 52, 0xff: 52} {
		l := limits{}
		l.read([]hv.CPUIDEntry{{Function: 0x80000008, EAX: eax}, {Function: 0xd, Index: 31, EAX: 1, EBX: 2}, {Function: 0xd, Index: 32, EAX: 1, EBX: 2}, {Function: 0xd, Index: ^uint32(0)}})
		assert.Equal(t, want, l.addressBits, eax)
		assert.Equal(t, component{offset: 2, size: 1}, l.components[31])
	}
}
