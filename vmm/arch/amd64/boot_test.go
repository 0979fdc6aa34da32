package amd64

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
)

const (
	mib     = 1 << 20
	ramSize = 64 * mib
	kernel  = 16 * mib // where the tests' kernels go
)

func ram(t testing.TB, size uint64) *memory.Memory {
	t.Helper()
	m, err := memory.New(Layout(size))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	return m
}

func plain() BootConfig {
	return BootConfig{Segments: []Segment{{Addr: kernel, Data: []byte("the kernel"), Size: 8192}}, Entry: kernel + 1, CommandLine: "quiet", VCPUs: 1}
}

func read(t testing.TB, m *memory.Memory, addr, n uint64) []byte {
	t.Helper()
	b := make([]byte, n)
	require.NoError(t, m.ReadAt(b, addr))
	return b
}

// header is a setup header as long as protocol 2.15 has it.
func header(change func(h []byte)) []byte {
	h := make([]byte, 0x26c-zpSetupHeader)
	for i := range h {
		h[i] = 0xc0
	}
	put := func(off int, v uint32) { le.PutUint32(h[off-zpSetupHeader:], v) }
	put(zpMagic, 0x53726448)
	put(zpInitrdMax, maxInitrdAddr)
	put(zpCmdlineSize, 2047)
	h[zpLoadFlags-zpSetupHeader] = loadedHigh
	if change != nil {
		change(h)
	}
	return h
}

func TestLoad(t *testing.T) {
	t.Parallel()
	m := ram(t, ramSize)
	c := plain()
	c.Segments = append(c.Segments, Segment{Addr: kernel + 1*mib, Data: []byte("data"), Size: 4})
	c.CommandLine, c.VCPUs = strings.Repeat("x", 300), 4
	require.NoError(t, Load(m, c))
	assert.Equal(t, "the kernel", string(read(t, m, kernel, 10)))
	assert.Equal(t, make([]byte, 8192-10), read(t, m, kernel+10, 8192-10))
	assert.Equal(t, "data", string(read(t, m, kernel+1*mib, 4)))
	assert.Equal(t, c.CommandLine+"\x00", string(read(t, m, commandLine, 301)))
	mpEntries(t, read(t, m, mpTableAddr, uint64(len(mpTable(4)))))
	assert.Equal(t, gdt(), read(t, m, gdtAddr, 40))
}

// TestZeroPage checks struct boot_params (Documentation/arch/x86/zero-page.rst).
func TestZeroPage(t *testing.T) {
	t.Parallel()
	t.Run("plain kernel", func(t *testing.T) {
		t.Parallel()
		m := ram(t, ramSize)
		require.NoError(t, Load(m, plain()))
		p := read(t, m, zeroPageAddr, 4096)
		assert.EqualValues(t, 0xaa55, le.Uint16(p[0x1fe:]))
		assert.Equal(t, "HdrS", string(p[0x202:0x206]))
		assert.GreaterOrEqual(t, le.Uint16(p[0x206:]), uint16(0x20c), "64-bit entry")
		assert.EqualValues(t, 0xff, p[0x210], "loader")
		assert.EqualValues(t, 1, p[0x211], "loaded high")
		assert.EqualValues(t, commandLine, le.Uint32(p[0x228:]))
		assert.Zero(t, le.Uint32(p[0x218:]), "no initrd")
		assert.Zero(t, le.Uint32(p[0x21c:]))
	})
	t.Run("bzImage", func(t *testing.T) {
		t.Parallel()
		m := ram(t, ramSize)
		c := plain()
		c.SetupHeader = header(nil)
		require.NoError(t, Load(m, c))
		p := read(t, m, zeroPageAddr, 4096)
		assert.Zero(t, p[0x1ef], "the sentinel: all fields that are not set are zero")
		want := bytes.Clone(c.SetupHeader)
		for off, n := range map[int]int{zpLoader: 1, zpLoadFlags: 1, zpInitrd: 8, zpCommandLine: 4} {
			copy(want[off-zpSetupHeader:][:n], p[off:])
		}
		assert.Equal(t, want, p[zpSetupHeader:zpSetupHeader+len(want)], "the rest is the kernel's")
		assert.EqualValues(t, 0xff, p[zpLoader])
		assert.EqualValues(t, commandLine, le.Uint32(p[zpCommandLine:]))
		assert.Zero(t, le.Uint64(p[zpInitrd:]))
	})
	t.Run("setup header too long", func(t *testing.T) {
		t.Parallel()
		m := ram(t, ramSize)
		c := plain()
		c.SetupHeader = append(header(nil), bytes.Repeat([]byte{0xee}, 1000)...)
		require.NoError(t, Load(m, c))
		p := read(t, m, zeroPageAddr, 4096)
		assert.EqualValues(t, 0xee, p[zpSetupEnd-1])
		assert.Zero(t, p[zpSetupEnd], "it ends before the next field")
		assert.EqualValues(t, 3, p[zpE820Count])
	})
}

// TestE820LeavesOutWhatIsPluggable: the guest must not take it for RAM.
func TestE820LeavesOutWhatIsPluggable(t *testing.T) {
	t.Parallel()
	plugged, err := memory.New([]memory.Range{{Base: 0, Size: ramSize}, Pluggable(ramSize, 2*mib)})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, plugged.Close()) })
	m := ram(t, ramSize)
	require.NoError(t, Load(plugged, plain()))
	require.NoError(t, Load(m, plain()))
	assert.Equal(t, read(t, m, zeroPageAddr, 4096), read(t, plugged, zeroPageAddr, 4096))
}

func TestE820(t *testing.T) {
	t.Parallel()
	type entry struct {
		addr, size uint64
		kind       uint32
	}
	low := []entry{{0, 0x9fc00, 1}, {0x9fc00, 0x400, 2}}
	for name, c := range map[string]struct {
		size uint64
		want []entry
	}{
		"64 MiB":       {ramSize, append(low[:2:2], entry{mib, 63 * mib, 1})},
		"to the hole":  {HoleStart, append(low[:2:2], entry{mib, HoleStart - mib, 1})},
		"both sides":   {4 << 30, append(low[:2:2], entry{mib, HoleStart - mib, 1}, entry{4 << 30, 768 * mib, 1})},
		"a page above": {HoleStart + 4096, append(low[:2:2], entry{mib, HoleStart - mib, 1}, entry{4 << 30, 4096, 1})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := ram(t, c.size)
			require.NoError(t, Load(m, plain()))
			p := read(t, m, zeroPageAddr, 4096)
			var got []entry
			for i := range int(p[zpE820Count]) {
				e := p[zpE820+20*i:]
				got = append(got, entry{le.Uint64(e), le.Uint64(e[8:]), le.Uint32(e[16:])})
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// TestBootPageTables walks the tables as a processor does.
func TestBootPageTables(t *testing.T) {
	t.Parallel()
	m := ram(t, ramSize)
	require.NoError(t, Load(m, plain()))
	entry := func(table, index uint64) uint64 { return le.Uint64(read(t, m, table&^0xfff+8*index, 8)) }
	for _, addr := range []uint64{0, 0x7000, kernel, ramSize - 1, bootMapped - 1} {
		pml4 := entry(pageTables, addr>>39&511)
		require.EqualValues(t, 3, pml4&3)
		pdpt := entry(pml4, addr>>30&511)
		require.EqualValues(t, 3, pdpt&3)
		pd := entry(pdpt, addr>>21&511)
		require.EqualValues(t, 0x83, pd&0xfff, "a large page")
		assert.Equal(t, addr, pd&^0xfff|addr&0x1fffff)
	}
	assert.Zero(t, entry(entry(pageTables, 0), 1)&1, "what is above is not mapped")
}

func TestGDT(t *testing.T) {
	t.Parallel()
	b := gdt()
	field := func(selector int, shift, width uint) uint64 { return le.Uint64(b[selector:]) >> shift & (1<<width - 1) }
	assert.Zero(t, le.Uint64(b))
	assert.EqualValues(t, 0x10, bootCS, "the boot protocol's __BOOT_CS")
	assert.EqualValues(t, 0x18, bootDS, "and __BOOT_DS")
	assert.EqualValues(t, 0b1011, field(bootCS, 40, 4), "execute, read, accessed")
	assert.EqualValues(t, 1, field(bootCS, 53, 1), "64-bit")
	assert.EqualValues(t, 0, field(bootCS, 54, 1))
	assert.EqualValues(t, 0b0011, field(bootDS, 40, 4), "read, write, accessed")
	for _, s := range []int{bootCS, bootDS} {
		assert.EqualValues(t, 1, field(s, 44, 1), "code or data")
		assert.EqualValues(t, 1, field(s, 47, 1), "present")
		assert.EqualValues(t, 0xffff, field(s, 0, 16))
		assert.EqualValues(t, 1, field(s, 55, 1), "4 GiB")
	}
	assert.EqualValues(t, 0b1011, field(bootTSS, 40, 4), "busy task state segment")
}

// TestBootInputs (N96) refuses what cannot be booted, and says so.
func TestBootInputs(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", MaxCommandLine)
	for name, c := range map[string]struct {
		change func(c *BootConfig)
		good   bool
	}{
		"as it is":               {func(*BootConfig) {}, true},
		"no command line":        {func(c *BootConfig) { c.CommandLine = "" }, true},
		"longest command line":   {func(c *BootConfig) { c.CommandLine = huge }, true},
		"command line too long":  {func(c *BootConfig) { c.CommandLine = huge + "x" }, false},
		"longest of a bzImage":   {func(c *BootConfig) { c.SetupHeader, c.CommandLine = header(nil), huge[:2047] }, true},
		"too long for a bzImage": {func(c *BootConfig) { c.SetupHeader, c.CommandLine = header(nil), huge[:2048] }, false},
		"bzImage that takes too much": {func(c *BootConfig) {
			c.SetupHeader, c.CommandLine = header(func(h []byte) { le.PutUint32(h[zpCmdlineSize-zpSetupHeader:], 1<<32-1) }), huge+"x"
		}, false},
		"bzImage with a short header":  {func(c *BootConfig) { c.SetupHeader = header(nil)[:20] }, true},
		"NUL in the command line":      {func(c *BootConfig) { c.CommandLine = "quiet\x00init=/bin/sh" }, false},
		"no processor":                 {func(c *BootConfig) { c.VCPUs = 0 }, false},
		"negative processors":          {func(c *BootConfig) { c.VCPUs = -1 }, false},
		"32 processors":                {func(c *BootConfig) { c.VCPUs = MaxVCPUs }, true},
		"33 processors":                {func(c *BootConfig) { c.VCPUs = MaxVCPUs + 1 }, false},
		"no segments":                  {func(c *BootConfig) { c.Segments = nil }, false},
		"only an empty segment":        {func(c *BootConfig) { c.Segments = []Segment{{Addr: kernel}} }, false},
		"an empty segment anywhere":    {func(c *BootConfig) { c.Segments = append(c.Segments, Segment{Addr: ^uint64(0)}) }, true},
		"segment in the first MiB":     {func(c *BootConfig) { c.Segments[0].Addr = mib - 1 }, false},
		"segment at 0":                 {func(c *BootConfig) { c.Segments[0].Addr, c.Entry = 0, 0 }, false},
		"segment at 1 MiB":             {func(c *BootConfig) { c.Segments[0].Addr, c.Entry = mib, mib }, true},
		"segment up to the end of RAM": {func(c *BootConfig) { c.Segments[0].Size = ramSize - kernel }, true},
		"segment over the end of RAM":  {func(c *BootConfig) { c.Segments[0].Size = ramSize - kernel + 1 }, false},
		"segment behind RAM":           {func(c *BootConfig) { c.Segments[0].Addr, c.Entry = ramSize, ramSize }, false},
		"data over the end of RAM":     {func(c *BootConfig) { c.Segments[0] = Segment{Addr: ramSize - 4, Data: make([]byte, 5)} }, false},
		"segment in the hole":          {func(c *BootConfig) { c.Segments[0].Addr, c.Entry = HoleStart, HoleStart }, false},
		"segment that wraps around":    {func(c *BootConfig) { c.Segments[0].Size = ^uint64(0) }, false},
		"segment at the top":           {func(c *BootConfig) { c.Segments[0].Addr, c.Entry = ^uint64(4095), ^uint64(4095) }, false},
		"same segment twice":           {func(c *BootConfig) { c.Segments = append(c.Segments, c.Segments[0]) }, false},
		"overlap by one byte":          {func(c *BootConfig) { c.Segments = append(c.Segments, Segment{Addr: kernel + 8191, Size: 1}) }, false},
		"overlap from below":           {func(c *BootConfig) { c.Segments = append(c.Segments, Segment{Addr: kernel - 4096, Size: 4097}) }, false},
		"one inside another":           {func(c *BootConfig) { c.Segments = append(c.Segments, Segment{Addr: kernel + 100, Data: []byte{1}}) }, false},
		"one behind the other":         {func(c *BootConfig) { c.Segments = append(c.Segments, Segment{Addr: kernel + 8192, Size: 1}) }, true},
		"more data than size":          {func(c *BootConfig) { c.Segments[0].Size = 1 }, true},
		"entry before the kernel":      {func(c *BootConfig) { c.Entry = kernel - 1 }, false},
		"entry behind the kernel":      {func(c *BootConfig) { c.Entry = kernel + 8192 }, false},
		"entry at 0":                   {func(c *BootConfig) { c.Entry = 0 }, false},
		"initrd":                       {func(c *BootConfig) { c.Initrd = make([]byte, 10*mib+1) }, true},
		"initrd up to the kernel":      {func(c *BootConfig) { c.Initrd = make([]byte, ramSize-kernel-8192) }, true},
		"initrd over the kernel":       {func(c *BootConfig) { c.Initrd = make([]byte, ramSize-kernel-8192+1) }, false},
		"initrd as large as RAM":       {func(c *BootConfig) { c.Initrd = make([]byte, ramSize) }, false},
		"initrd larger than RAM":       {func(c *BootConfig) { c.Initrd = make([]byte, ramSize+1) }, false},
		"initrd beyond what a kernel takes": {func(c *BootConfig) {
			c.SetupHeader, c.Initrd = header(func(h []byte) { le.PutUint32(h[zpInitrdMax-zpSetupHeader:], kernel-1) }), make([]byte, 5)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := ram(t, ramSize)
			b := plain()
			c.change(&b)
			err := Load(m, b)
			if c.good {
				require.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, ErrBoot)
		})
	}
	t.Run("too little memory for anything", func(t *testing.T) {
		t.Parallel()
		assert.ErrorIs(t, Load(ram(t, 4096), plain()), ErrBoot)
	})
	t.Run("kernel above the first GiB", func(t *testing.T) {
		t.Parallel()
		c := plain()
		c.Segments[0].Addr, c.Entry = bootMapped-4096, bootMapped-4096
		assert.ErrorIs(t, Load(ram(t, 2<<30), c), ErrBoot, "the boot page tables end there")
		c.Segments[0].Size = 4096
		assert.NoError(t, Load(ram(t, 2<<30), c))
	})
}

func TestInitrd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ram       uint64
		header    []byte
		want, end uint64
	}{
		"at the end of RAM":           {ram: ramSize, want: ramSize - 8192},
		"below 2 GiB":                 {ram: HoleStart, want: 2<<30 - 8192},
		"below the hole, both sides":  {ram: 5 << 30, want: 2<<30 - 8192},
		"where the kernel takes it":   {ram: HoleStart, want: 32*mib - 8192, header: header(func(h []byte) { le.PutUint32(h[zpInitrdMax-zpSetupHeader:], 32*mib-1) })},
		"kernel that takes all 4 GiB": {ram: 5 << 30, want: HoleStart - 8192, header: header(func(h []byte) { le.PutUint32(h[zpInitrdMax-zpSetupHeader:], 1<<32-1) })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := ram(t, c.ram)
			b := plain()
			b.Initrd, b.SetupHeader = bytes.Repeat([]byte("cpio"), 1025), c.header
			require.NoError(t, Load(m, b))
			p := read(t, m, zeroPageAddr, 4096)
			addr, size := uint64(le.Uint32(p[zpInitrd:])), uint64(le.Uint32(p[zpInitrdSize:]))
			assert.Equal(t, c.want, addr)
			assert.EqualValues(t, len(b.Initrd), size)
			assert.Equal(t, b.Initrd, read(t, m, addr, size))
		})
	}
}

// TestMappedSegments takes whole pages from a file and the rest from Data.
func TestMappedSegments(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1000) // not whole pages
	f, err := os.Create(filepath.Join(t.TempDir(), "kernel"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(data, 8192)
	require.NoError(t, err)
	for name, s := range map[string]Segment{
		"aligned":          {Addr: kernel, File: f, Offset: 8192},
		"unaligned offset": {Addr: kernel, File: f, Offset: 8000},
		"unaligned":        {Addr: kernel + 16, File: f, Offset: 8192},
		"no file":          {Addr: kernel},
	} {
		t.Run(name, func(t *testing.T) {
			s.Data, s.Size = data, 5*4096
			m := ram(t, ramSize)
			require.NoError(t, Load(m, BootConfig{Segments: []Segment{s}, Entry: s.Addr, VCPUs: 1}))
			assert.Equal(t, data, read(t, m, s.Addr, uint64(len(data))))
			rest := 5*4096 - uint64(len(data))
			assert.Equal(t, make([]byte, rest), read(t, m, s.Addr+uint64(len(data)), rest))
			require.NoError(t, m.WriteAt([]byte("guest"), s.Addr))
			var b [5]byte
			_, err := f.ReadAt(b[:], 8192)
			require.NoError(t, err)
			assert.Equal(t, "01234", string(b[:]), "the file stays as it is")
		})
	}
}
