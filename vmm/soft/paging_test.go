package soft

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
)

const (
	// target is a linear address that newGuest leaves without tables at any level but
	// the first.
	target = 0x123456789000

	all = entryPresent | entryWritable | entryUser
)

// popcnt rax, [rbx] and xsave [rbx] access what RBX points to.
var (
	loadRBX  = []byte{0xf3, 0x48, 0x0f, 0xb8, 0x03}
	storeRBX = []byte{0x48, 0x0f, 0xae, 0x23}
)

func TestWalkFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		level  int    // of the entry to change, 0 for the page
		clear  uint64 // bits of it
		set    uint64
		setup  func(*guest)
		store  bool
		want   uint32
		passes bool
	}{
		"read":                                 {passes: true},
		"write":                                {store: true, passes: true},
		"page is missing":                      {clear: entryPresent},
		"page to write is missing":             {clear: entryPresent, store: true, want: faultWrite},
		"table is missing":                     {level: 1, clear: entryPresent},
		"directory is missing":                 {level: 2, clear: entryPresent},
		"directory pointer is missing":         {level: 3, clear: entryPresent, store: true, want: faultWrite},
		"missing beats reserved":               {clear: entryPresent, set: 1 << 51},
		"read of read-only":                    {clear: entryWritable, passes: true},
		"write of read-only":                   {clear: entryWritable, store: true, want: faultWrite | faultPresent},
		"write of read-only table":             {level: 1, clear: entryWritable, store: true, want: faultWrite | faultPresent},
		"write of read-only directory":         {level: 2, clear: entryWritable, store: true, want: faultWrite | faultPresent},
		"write of read-only directory pointer": {level: 3, clear: entryWritable, store: true, want: faultWrite | faultPresent},
		"write of read-only without WP":        {clear: entryWritable, store: true, setup: func(g *guest) { g.sys.CR0 &^= cr0WP }, passes: true},
		"user reads":                           {setup: user, passes: true},
		"user writes":                          {setup: user, store: true, passes: true},
		"user reads missing":                   {setup: user, clear: entryPresent, want: faultUser},
		"user writes read-only":                {setup: user, clear: entryWritable, store: true, want: faultUser | faultWrite | faultPresent},
		"user writes read-only without WP":     {setup: func(g *guest) { user(g); g.sys.CR0 &^= cr0WP }, clear: entryWritable, store: true, want: faultUser | faultWrite | faultPresent},
		"user reads supervisor's":              {setup: user, clear: entryUser, want: faultUser | faultPresent},
		"user reads supervisor's table":        {setup: user, level: 1, clear: entryUser, want: faultUser | faultPresent},
		"user reads supervisor's directory":    {setup: user, level: 2, clear: entryUser, want: faultUser | faultPresent},
		"user writes supervisor's":             {setup: user, store: true, clear: entryUser, want: faultUser | faultWrite | faultPresent},
		"SMAP forbids user pages":              {setup: func(g *guest) { g.sys.CR4 |= cr4SMAP }, want: faultPresent},
		"SMAP forbids to write user pages":     {setup: func(g *guest) { g.sys.CR4 |= cr4SMAP }, store: true, want: faultWrite | faultPresent},
		"SMAP lets AC through":                 {setup: func(g *guest) { g.sys.CR4 |= cr4SMAP; g.regs.RFLAGS |= flagAC }, passes: true},
		"SMAP is not about supervisor pages":   {setup: func(g *guest) { g.sys.CR4 |= cr4SMAP }, clear: entryUser, passes: true},
		"SMAP is not about users":              {setup: func(g *guest) { user(g); g.sys.CR4 |= cr4SMAP }, passes: true},
		"address too wide":                     {set: 1 << 48, want: faultPresent | faultReserved},
		"address of a table too wide":          {level: 2, set: 1 << 51, store: true, want: faultPresent | faultReserved | faultWrite},
		"no-execute page is data":              {set: entryNX, passes: true},
		"no-execute without NXE":               {set: entryNX, setup: func(g *guest) { g.sys.EFER &^= eferNXE }, want: faultPresent | faultReserved},
		"no-execute table without NXE":         {level: 3, set: entryNX, setup: func(g *guest) { g.sys.EFER &^= eferNXE }, want: faultPresent | faultReserved},
		"large bit in the directory pointer":   {level: 3, set: entryLarge, want: faultPresent | faultReserved},
		"bits for software are free":           {set: 7<<9 | 0x7f<<52, passes: true},
		"PAT bit of a page":                    {set: entryLarge, passes: true},
		"ignored bits in a table":              {level: 1, set: 1 << 8, passes: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.mapPage(t, target, dataAddr|all)
			if c.setup != nil {
				c.setup(g)
			}
			at := g.slot(t, target, c.level)
			g.setEntry(t, at, g.entry(t, at)&^c.clear|c.set)
			code := loadRBX
			if c.store {
				code = storeRBX
			}
			g.regs.RBX = target
			if c.passes {
				g.does(t, code...)
				return
			}
			g.raises(t, pageFault(target, c.want), code...)
			assert.Equal(t, make([]byte, 1024), g.bytes(t, dataAddr, 1024), "nothing may be written")
		})
	}
}

// user lets the guest run a program instead of its kernel.
func user(g *guest) { g.sys.SS.DPL, g.sys.CS.DPL = 3, 3 }

func TestLargePages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		level  int
		entry  uint64
		linear uint64
		phys   uint64
	}{
		"2 MiB":                  {1, all | entryLarge, target, 0x56789000 & 0x1fffff},
		"2 MiB, PAT bit":         {1, all | entryLarge | 1<<12, target, 0x56789000 & 0x1fffff},
		"1 GiB":                  {2, all | entryLarge, 0x123440012340, 0x12340},
		"1 GiB, PAT bit":         {2, all | entryLarge | 1<<12, 0x123440012340, 0x12340},
		"2 MiB, last bytes":      {1, all | entryLarge, 0x1234567fffc0 - 0x100000, 0xfffc0},
		"2 MiB, over an edge":    {1, all | entryLarge, target + 0xffc, 0x56789ffc & 0x1fffff},
		"2 MiB in the high half": {1, all | entryLarge, 0xffffc00000012340, 0x12340},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			if c.phys >= ramSize {
				c.linear, c.phys = c.linear-ramSize, c.phys-ramSize
			}
			at := g.slot(t, c.linear, c.level)
			g.setEntry(t, at, c.entry)
			g.write(t, c.phys, 0xff, 0, 0, 0, 0, 0, 0, 0x81)
			g.regs.RBX = c.linear
			g.does(t, loadRBX...)
			assert.Equal(t, uint64(10), g.regs.RAX)
			assert.Equal(t, c.entry|entryAccessed, g.entry(t, at))

			g.setEntry(t, at, c.entry|1<<13)
			g.raises(t, pageFault(c.linear, faultPresent|faultReserved), loadRBX...)
		})
	}
}

func TestAccessedAndDirty(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.mapPage(t, target, dataAddr|all)
	g.regs.RBX = target
	g.does(t, loadRBX...)
	for level := range levels {
		e := g.entry(t, g.slot(t, target, level))
		assert.Equal(t, uint64(entryAccessed), e&(entryAccessed|entryDirty), "level %d after a read", level)
	}
	g.regs.RAX = 7
	g.does(t, storeRBX...)
	assert.Equal(t, uint64(dataAddr|all|entryAccessed|entryDirty), g.entry(t, g.slot(t, target, 0)))
	for level := 1; level < levels; level++ {
		e := g.entry(t, g.slot(t, target, level))
		assert.Equal(t, uint64(entryAccessed), e&(entryAccessed|entryDirty), "level %d after a write", level)
	}

	// A fault leaves the last entry alone.
	g.mapPage(t, target, dataAddr|entryPresent)
	g.raises(t, pageFault(target, faultWrite|faultPresent), storeRBX...)
	assert.Equal(t, uint64(dataAddr|entryPresent), g.entry(t, g.slot(t, target, 0)))
}

func TestTablesOutsideOfRAM(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*testing.T, *guest){
		"CR3":               func(_ *testing.T, g *guest) { g.sys.CR3 = ramSize },
		"CR3 at the end":    func(_ *testing.T, g *guest) { g.sys.CR3 = entryAddress },
		"directory pointer": func(t *testing.T, g *guest) { g.setEntry(t, g.slot(t, target, 3), ramSize|all) },
		"directory":         func(t *testing.T, g *guest) { g.setEntry(t, g.slot(t, target, 2), 0xfee00000|all) },
		"table":             func(t *testing.T, g *guest) { g.setEntry(t, g.slot(t, target, 1), 1<<47|all) },
		"page":              func(t *testing.T, g *guest) { g.mapPage(t, target, ramSize|all) },
		"page at the end":   func(t *testing.T, g *guest) { g.mapPage(t, target, (1<<48-memory.PageSize)|all) },
		"large page":        func(t *testing.T, g *guest) { g.setEntry(t, g.slot(t, target, 1), 0x40000000|all|entryLarge) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.mapPage(t, target, dataAddr|all)
			spoil(t, g)
			g.regs.RBX = target
			ok, err := g.handle(t, loadRBX...)
			assert.False(t, ok)
			assert.ErrorIs(t, err, ErrAddress)
			assert.Empty(t, g.injected)
			assert.Equal(t, uint64(codeAddr), g.regs.RIP)
		})
	}
}

// Tables that are their own tables are legal: the walk has as many steps as ever. The
// first time it sees the accessed bit change under it, by its own hand.
func TestTablesThatLoop(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.setEntry(t, pml4+8*300, pml4|all)
	g.regs.RBX = uint64(0xffff)<<48 | 300<<39 | 300<<30 | 300<<21 | 300<<12
	g.write(t, pml4+0xff8, 0xff)
	g.regs.RBX += 0xff8
	ok, err := g.handle(t, loadRBX...)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, uint64(codeAddr), g.regs.RIP)
	g.does(t, loadRBX...)
	assert.Equal(t, uint64(8), g.regs.RAX)
}

func TestAddressesThatAreNotCanonical(t *testing.T) {
	t.Parallel()
	loadRSP := []byte{0xf3, 0x48, 0x0f, 0xb8, 0x04, 0x24}
	loadRBP := []byte{0xf3, 0x48, 0x0f, 0xb8, 0x45, 0x00}
	loadFSRBP := []byte{0x64, 0xf3, 0x48, 0x0f, 0xb8, 0x45, 0x00}
	loadR13 := []byte{0xf3, 0x49, 0x0f, 0xb8, 0x45, 0x00}
	for name, c := range map[string]struct {
		code []byte
		addr uint64
		want exception
	}{
		"above the lower half":   {loadRBX, 1 << 47, protection()},
		"below the upper half":   {loadRBX, highBase - 8, protection()},
		"into the hole":          {loadRBX, 1<<47 - 7, protection()},
		"around":                 {loadRBX, ^uint64(0) - 6, protection()},
		"of the stack":           {loadRSP, 1 << 63, stackFault()},
		"of the frame":           {loadRBP, 1 << 63, stackFault()},
		"of the frame in FS":     {loadFSRBP, 1 << 63, protection()},
		"R13 is not the frame":   {loadR13, 1 << 63, protection()},
		"store into the hole":    {storeRBX, 1<<47 - 64, protection()},
		"header after a wrap":    {storeRBX, ^uint64(0) - 0x7f, protection()},
		"aligned before address": {storeRBX, 1<<63 | 1, protection()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.mapPage(t, 1<<47-memory.PageSize, dataAddr|all)
			g.mapPage(t, ^uint64(memory.PageSize-1), dataAddr|all)
			g.regs.RBX, g.regs.RSP, g.regs.RBP, g.regs.R13 = c.addr, c.addr, c.addr, c.addr
			g.raises(t, c.want, c.code...)
		})
	}
}

func TestOperandOverTwoPages(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.mapPage(t, target, dataAddr|all)
	g.mapPage(t, target+memory.PageSize, (dataAddr+0x8000)|all)
	g.write(t, dataAddr+0xffd, 1, 1, 1)
	g.write(t, dataAddr+0x8000, 1, 1, 1, 1, 1)
	g.regs.RBX = target + 0xffd
	g.does(t, loadRBX...)
	assert.Equal(t, uint64(8), g.regs.RAX)

	g.mapPage(t, target+memory.PageSize, 0)
	g.raises(t, pageFault(target+memory.PageSize, 0), loadRBX...)
	g.mapPage(t, target, 0)
	g.raises(t, pageFault(target+0xffd, 0), loadRBX...)
}

func TestFetch(t *testing.T) {
	t.Parallel()
	run := func(g *guest, rip uint64) (bool, error) {
		g.regs.RIP = rip
		return New(g.mem).Handle(g)
	}
	last := uint64(target + memory.PageSize)
	code := []byte{0xf3, 0x48, 0x0f, 0xb8, 0xc3}

	t.Run("over two pages", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		g.mapPage(t, target, dataAddr|all)
		g.mapPage(t, last, (dataAddr+0x8000)|all)
		g.write(t, dataAddr+0xffe, code[:2]...)
		g.write(t, dataAddr+0x8000, code[2:]...)
		g.regs.RBX = 7
		ok, err := run(g, last-2)
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Equal(t, uint64(3), g.regs.RAX)
		assert.Equal(t, last+3, g.regs.RIP)
	})
	t.Run("up to a missing page", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		g.mapPage(t, target, dataAddr|all)
		g.write(t, dataAddr+0xffb, code...)
		ok, err := run(g, last-5)
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Empty(t, g.injected)
		assert.Equal(t, last, g.regs.RIP)
	})
	t.Run("into a missing page", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		g.mapPage(t, target, dataAddr|all)
		g.write(t, dataAddr+0xffc, code[:4]...)
		ok, err := run(g, last-4)
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Equal(t, []exception{{vector: vectorPageFault, hasCode: true, code: faultFetch}}, g.injected)
		assert.Equal(t, last, g.sys.CR2)
		assert.Equal(t, last-4, g.regs.RIP)
	})
	t.Run("into a missing page without NX", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		g.sys.EFER &^= eferNXE
		_, err := run(g, target)
		require.NoError(t, err)
		assert.Equal(t, []exception{{vector: vectorPageFault, hasCode: true}}, g.injected)
	})
	t.Run("into a page out of RAM", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		g.mapPage(t, target, dataAddr|all)
		g.mapPage(t, last, ramSize|all)
		g.write(t, dataAddr+0xffc, code[:4]...)
		ok, err := run(g, last-4)
		assert.False(t, ok)
		assert.ErrorIs(t, err, ErrAddress)
		g.write(t, dataAddr+0xffb, code...)
		ok, err = run(g, last-5)
		assert.NoError(t, err)
		assert.True(t, ok, "it is not needed")
	})
	t.Run("into the hole", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		g.mapPage(t, 1<<47-memory.PageSize, dataAddr|all)
		g.write(t, dataAddr+0xfff, code[0])
		_, err := run(g, 1<<47-1)
		require.NoError(t, err)
		assert.Equal(t, []exception{protection()}, g.injected)
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t)
		g.raises(t, protection(), bytes.Repeat([]byte{0x66}, 20)...)
	})
}

// Another processor changes the page tables while instructions are emulated: each of them
// completes, faults or starts again, and no change of the other is lost.
func TestPageTablesChangeMeanwhile(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.mapPage(t, target, dataAddr|all)
	w, err := g.mem.Word64(g.slot(t, target, 0))
	require.NoError(t, err)
	g.write(t, codeAddr, loadRBX...)
	g.regs.RBX = target
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			// As a kernel does it: take the entry away, look at its bits, put another.
			for e := w.Load(); !w.CompareAndSwap(e, 0); e = w.Load() {
			}
			if !w.CompareAndSwap(0, dataAddr|all|i%2<<9) {
				panic("an entry that is not present was changed")
			}
		}
	})
	e := New(g.mem)
	for range 20000 {
		g.regs.RIP = codeAddr
		g.injected = g.injected[:0]
		ok, err := e.Handle(g)
		require.NoError(t, err)
		require.True(t, ok)
		if len(g.injected) > 0 {
			require.Equal(t, []exception{{vector: vectorPageFault, hasCode: true}}, g.injected)
		}
	}
	close(stop)
	wg.Wait()
}

func TestRetryLeavesTheInstruction(t *testing.T) {
	t.Parallel()
	c := cpu{result: retried}
	c.regs.RIP = codeAddr
	g := newGuest(t)
	c.v = g
	ok, err := c.finish()
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, uint64(codeAddr), g.regs.RIP)
	assert.Empty(t, g.injected)
}
