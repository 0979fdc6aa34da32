package amd64

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/gomsb/gomsb/vmm/memory"
)

// ErrBoot is wrapped by every error about what is to be booted: a kernel that does not
// fit, a command line that is too long, parts that overlap.
var ErrBoot = errors.New("cannot load the kernel")

// Segment is a part of the kernel: Data goes to Addr, the rest up to Size is zero.
type Segment struct {
	Addr, Size uint64
	Data       []byte
	// File holds Data from Offset on, unless nil. What is whole pages of it is mapped
	// instead of copied.
	File   *os.File
	Offset int64
}

// load puts the segment into memory.
func (s *Segment) load(mem *memory.Memory) error {
	mapped := int64(len(s.Data)) &^ (memory.PageSize - 1)
	if s.File == nil || mapped == 0 || s.Addr%memory.PageSize != 0 || s.Offset%memory.PageSize != 0 {
		return mem.WriteAt(s.Data, s.Addr)
	}
	err := mem.MapFile(s.Addr, s.File, s.Offset, mapped)
	if errors.Is(err, errors.ErrUnsupported) {
		return mem.WriteAt(s.Data, s.Addr)
	}
	return errors.Join(err, mem.WriteAt(s.Data[mapped:], s.Addr+uint64(mapped)))
}

// BootConfig says what to load.
type BootConfig struct {
	Segments    []Segment
	Entry       uint64 // 64-bit entry point
	CommandLine string
	// SetupHeader is the setup_header of a bzImage from offset 0x1f1, empty for a plain
	// kernel, which gets a minimal one.
	SetupHeader []byte
	Initrd      []byte
	VCPUs       int
}

// header is the 32-bit field of the kernel's setup header at offset off of the zero page,
// or the value of a plain kernel's.
func (c *BootConfig) header(off int, plain uint32) uint32 {
	if off -= zpSetupHeader; len(c.SetupHeader) >= off+4 {
		return binary.LittleEndian.Uint32(c.SetupHeader[off:])
	}
	return plain
}

// Load puts the kernel and everything it is handed into guest memory, which is zero
// before.
func Load(mem *memory.Memory, c BootConfig) error {
	if c.VCPUs < 1 || c.VCPUs > MaxVCPUs {
		return fmt.Errorf("%w: %d processors, 1 to %d are possible", ErrBoot, c.VCPUs, MaxVCPUs)
	}
	if most := min(c.header(zpCmdlineSize, MaxCommandLine), MaxCommandLine); len(c.CommandLine) > int(most) {
		return fmt.Errorf("%w: command line of %d bytes, at most %d", ErrBoot, len(c.CommandLine), most)
	}
	if strings.ContainsRune(c.CommandLine, 0) {
		return fmt.Errorf("%w: command line contains a NUL", ErrBoot)
	}
	if err := loadKernel(mem, c); err != nil {
		return err
	}
	initrd, err := loadInitrd(mem, c)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		addr uint64
		data []byte
	}{
		{commandLine, append([]byte(c.CommandLine), 0)},
		{mpTableAddr, mpTable(c.VCPUs)},
		{zeroPageAddr, zeroPage(mem, c, initrd)},
		{pageTables, bootPageTables()},
		{gdtAddr, gdt()},
	} {
		if err := mem.WriteAt(part.data, part.addr); err != nil {
			return fmt.Errorf("%w: %w: give the guest more memory", ErrBoot, err)
		}
	}
	return nil
}

func loadKernel(mem *memory.Memory, c BootConfig) error {
	if len(c.Segments) == 0 {
		return fmt.Errorf("%w: it has no segments", ErrBoot)
	}
	inside := false
	for i, s := range c.Segments {
		size := max(s.Size, uint64(len(s.Data)))
		if size == 0 {
			continue
		}
		if s.Addr < highMemory || s.Addr >= bootMapped || size > bootMapped-s.Addr {
			return fmt.Errorf("%w: segment of %d bytes at %#x, which is not from 1 MiB to 1 GiB", ErrBoot, size, s.Addr)
		}
		for _, o := range c.Segments[:i] {
			if s.Addr < o.Addr+max(o.Size, uint64(len(o.Data))) && o.Addr < s.Addr+size {
				return fmt.Errorf("%w: segments at %#x and %#x overlap", ErrBoot, o.Addr, s.Addr)
			}
		}
		if _, err := mem.Slice(s.Addr, size); err != nil {
			return fmt.Errorf("%w: %d bytes at %#x do not fit into %d MiB of memory: give the guest more", ErrBoot, size, s.Addr, mem.Size()>>20)
		}
		if err := s.load(mem); err != nil {
			return fmt.Errorf("%w: %w", ErrBoot, err)
		}
		inside = inside || c.Entry >= s.Addr && c.Entry < s.Addr+size
	}
	if !inside {
		return fmt.Errorf("%w: its entry point %#x is outside of it", ErrBoot, c.Entry)
	}
	return nil
}

// span is a loaded range.
type span struct{ addr, size uint64 }

// loadInitrd puts the initial RAM disk as high as the kernel takes it in low RAM, clear of
// the kernel.
func loadInitrd(mem *memory.Memory, c BootConfig) (span, error) {
	if len(c.Initrd) == 0 {
		return span{}, nil
	}
	low := mem.Regions()[0]
	size := uint64(len(c.Initrd))
	end := min(low.Base+low.Size, uint64(c.header(zpInitrdMax, maxInitrdAddr))+1)
	if size > end {
		return span{}, fmt.Errorf("%w: initrd of %d bytes does not fit into memory", ErrBoot, size)
	}
	addr := (end - size) &^ (memory.PageSize - 1)
	for _, s := range c.Segments {
		if addr < s.Addr+max(s.Size, uint64(len(s.Data))) {
			return span{}, fmt.Errorf("%w: initrd of %d bytes would overlap the kernel: give the guest more memory", ErrBoot, size)
		}
	}
	if err := mem.WriteAt(c.Initrd, addr); err != nil {
		return span{}, fmt.Errorf("%w: initrd: %w", ErrBoot, err)
	}
	return span{addr, size}, nil
}

// Offsets in struct boot_params, the "zero page".
const (
	zpE820Count   = 0x1e8
	zpSetupHeader = 0x1f1
	zpBootFlag    = 0x1fe
	zpMagic       = 0x202
	zpVersion     = 0x206
	zpLoader      = 0x210
	zpLoadFlags   = 0x211
	zpInitrd      = 0x218
	zpInitrdSize  = 0x21c
	zpCommandLine = 0x228
	zpInitrdMax   = 0x22c
	zpAlignment   = 0x230
	zpCmdlineSize = 0x238
	zpSetupEnd    = 0x290 // room for the setup header
	zpE820        = 0x2d0

	loaderUndefined = 0xff
	loadedHigh      = 1
	maxInitrdAddr   = 0x7fffffff // last byte that an initial RAM disk may have

	e820RAM      = 1
	e820Reserved = 2
)

func zeroPage(mem *memory.Memory, c BootConfig, initrd span) []byte {
	p := make([]byte, 4096)
	le := binary.LittleEndian
	if n := len(c.SetupHeader); n > 0 {
		copy(p[zpSetupHeader:zpSetupEnd], c.SetupHeader)
	} else {
		le.PutUint16(p[zpBootFlag:], 0xaa55)
		copy(p[zpMagic:], "HdrS")
		le.PutUint16(p[zpVersion:], 0x20f)
		le.PutUint32(p[zpInitrdMax:], maxInitrdAddr)
		le.PutUint32(p[zpAlignment:], 0x1000000)
		le.PutUint32(p[zpCmdlineSize:], MaxCommandLine)
	}
	p[zpLoader] = loaderUndefined
	p[zpLoadFlags] |= loadedHigh
	le.PutUint32(p[zpInitrd:], uint32(initrd.addr)) // below the hole, so it fits
	le.PutUint32(p[zpInitrdSize:], uint32(initrd.size))
	le.PutUint32(p[zpCommandLine:], commandLine)
	n := 0
	add := func(addr, end uint64, kind uint32) {
		if end <= addr {
			return
		}
		e := p[zpE820+20*n:]
		le.PutUint64(e, addr)
		le.PutUint64(e[8:], end-addr)
		le.PutUint32(e[16:], kind)
		n++
	}
	add(0, mpTableAddr, e820RAM)
	add(mpTableAddr, lowMemoryEnd, e820Reserved)
	for _, r := range mem.Regions() {
		if r.Pluggable {
			continue // its device tells the guest
		}
		add(max(r.Base, highMemory), r.Base+r.Size, e820RAM)
	}
	p[zpE820Count] = byte(n)
	return p
}

// bootMapped is how much bootPageTables map, in bytes.
const bootMapped = 1 << 30

// bootPageTables map the first GiB one to one with 2 MiB pages; the kernel makes its own
// at once.
func bootPageTables() []byte {
	const present, large = 3, 0x83
	b := make([]byte, 3*4096)
	le := binary.LittleEndian
	le.PutUint64(b, pageTables+0x1000|present)
	le.PutUint64(b[0x1000:], pageTables+0x2000|present)
	for i := range uint64(512) {
		le.PutUint64(b[0x2000+8*i:], i<<21|large)
	}
	return b
}

// gdt holds null, 64-bit code, data and a task state segment, which the boot protocol
// wants at selectors 0x10 and 0x18.
func gdt() []byte {
	b := make([]byte, 5*8)
	le := binary.LittleEndian
	le.PutUint64(b[bootCS:], 0x00af9b000000ffff)
	le.PutUint64(b[bootDS:], 0x00cf93000000ffff)
	le.PutUint64(b[bootTSS:], 0x008f8b000000ffff)
	return b
}

const (
	bootCS  = 0x10
	bootDS  = 0x18
	bootTSS = 0x20
)
