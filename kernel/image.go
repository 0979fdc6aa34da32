package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/unpacked"
)

// Limits on what Open accepts. Real kernels stay an order of magnitude below.
const (
	// MaxFileSize bounds the size in bytes of a kernel file.
	MaxFileSize = 256 << 20
	// MaxMemorySize bounds the bytes of guest memory a kernel may ask for.
	MaxMemorySize = 512 << 20
	// lowestAddress keeps a kernel out of the first MiB, where the zero page, the
	// command line, the MP table and the boot page tables live.
	lowestAddress = 1 << 20
	// highestAddress is where the device hole below 4 GiB begins: kernels load low.
	highestAddress = 0xD0000000
)

// Classes of error; test with errors.Is.
var (
	// ErrFormat says that the file is not a kernel this package can boot.
	ErrFormat = errors.New("not a bootable x86-64 kernel")
	// ErrTruncated says that the file ends before what its headers promise.
	ErrTruncated = errors.New("kernel file is truncated")
	// ErrLayout says that the kernel asks for an impossible place in memory.
	ErrLayout = errors.New("impossible kernel memory layout")
	// ErrTooLarge says that the kernel exceeds MaxFileSize or MaxMemorySize.
	ErrTooLarge = errors.New("kernel is too large")
	// ErrCache says that the cache folder or a file in it cannot be trusted.
	ErrCache = unpacked.ErrUnsafe
)

// Format names the container a kernel came in.
type Format string

// The containers Open understands.
const (
	FormatELF       Format = "elf"
	FormatBzImage   Format = "bzimage"
	FormatLibkrunfw Format = "libkrunfw"
)

// Segment is a range of guest-physical memory: Data at Addr, zeroes from there up
// to MemSize bytes. len(Data) <= MemSize, and Addr+MemSize does not overflow.
type Segment struct {
	Addr    uint64
	Data    []byte // read-only; valid until Image.Close
	MemSize uint64
	// Offset is where Data starts in Image.File, or -1 if no file holds it as is.
	// With it, whole pages may be mapped copy-on-write instead of copied.
	Offset int64
}

// End is the first guest-physical address after the segment.
func (s Segment) End() uint64 { return s.Addr + s.MemSize }

// Image is an opened kernel. Its segments are sorted by address and do not overlap,
// lie in [1 MiB, 0xD0000000), and one of them holds Entry within its Data.
type Image struct {
	Format   Format
	Segments []Segment
	// Entry is the guest-physical address of the 64-bit entry point.
	Entry uint64
	// SetupHeader is, for a bzImage, the setup header to copy into the zero page at
	// offset 0x1F1; nil for the other formats.
	SetupHeader []byte
	// Initrd says whether the kernel can unpack an initramfs.
	Initrd bool
	// Embedded says that this is the kernel built for this program, which knows the
	// words of CommandLine.
	Embedded bool

	file  *os.File
	mem   []byte // mapping that Segments point into, nil if on the heap
	close sync.Once
	err   error
}

// SHA256 is the digest of the kernel's file, in hexadecimal.
func (i *Image) SHA256() string {
	if i.Embedded {
		return EmbeddedSHA256
	}
	sum := sha256.Sum256(i.mem)
	return hex.EncodeToString(sum[:])
}

// File is the open file that segments with an Offset >= 0 are part of, or nil. It
// belongs to the Image: do not close it, nor use it after Close.
func (i *Image) File() *os.File { return i.file }

// End is the first guest-physical address after the last segment.
func (i *Image) End() uint64 {
	if len(i.Segments) == 0 {
		return 0
	}
	return i.Segments[len(i.Segments)-1].End()
}

// Close releases the file and the memory behind Segments, which must not be touched
// afterwards. Further calls return the first result.
func (i *Image) Close() error {
	i.close.Do(func() {
		i.Segments = nil
		if i.mem != nil {
			if err := unix.Munmap(i.mem); err != nil {
				i.err = fmt.Errorf("unmap kernel: %w", err)
			}
			i.mem = nil
		}
		if i.file != nil {
			i.err = errors.Join(i.err, i.file.Close())
			i.file = nil
		}
	})
	return i.err
}

// check sorts the segments and enforces the promises made at Image.
func (i *Image) check() error {
	if len(i.Segments) == 0 {
		return fmt.Errorf("%w: nothing to load", ErrFormat)
	}
	slices.SortFunc(i.Segments, func(a, b Segment) int {
		switch {
		case a.Addr < b.Addr:
			return -1
		case a.Addr > b.Addr:
			return 1
		}
		return 0
	})
	var total, end uint64
	entered := false
	for _, s := range i.Segments {
		if uint64(len(s.Data)) > s.MemSize {
			return fmt.Errorf("%w: segment at %#x holds more bytes than memory", ErrLayout, s.Addr)
		}
		if s.MemSize > MaxMemorySize || total+s.MemSize > MaxMemorySize {
			return fmt.Errorf("%w: needs more than %d MiB of memory", ErrTooLarge, MaxMemorySize>>20)
		}
		if s.Addr < lowestAddress || s.Addr >= highestAddress || s.MemSize > highestAddress-s.Addr {
			return fmt.Errorf("%w: segment at %#x, %#x bytes, is outside [%#x, %#x)", ErrLayout, s.Addr, s.MemSize, uint64(lowestAddress), uint64(highestAddress))
		}
		if s.Addr < end {
			return fmt.Errorf("%w: segment at %#x overlaps the one before it", ErrLayout, s.Addr)
		}
		total += s.MemSize
		end = s.End()
		if i.Entry >= s.Addr && i.Entry-s.Addr < uint64(len(s.Data)) {
			entered = true
		}
	}
	if !entered {
		return fmt.Errorf("%w: entry point %#x is in no loaded segment", ErrLayout, i.Entry)
	}
	return nil
}
