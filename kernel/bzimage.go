package kernel

import (
	"encoding/binary"
	"fmt"
)

// Offsets and values of the x86 setup header (Documentation/arch/x86/boot.rst).
const (
	bzSetupSects   = 0x1F1
	bzSysSize      = 0x1F4 // in units of 16 bytes
	bzBootFlag     = 0x1FE
	bzHeaderLength = 0x201 // header ends this many bytes after 0x202
	bzMagic        = 0x202
	bzVersion      = 0x206
	bzLoadFlags    = 0x211
	bzXLoadFlags   = 0x236
	bzPrefAddress  = 0x258
	bzInitSize     = 0x260
	bzHeaderEnd    = 0x264 // last byte of the fields above, plus one

	bzMagicHdrS    = 0x53726448
	bzBootFlagAA55 = 0xAA55
	bzMinVersion   = 0x020C // first with xloadflags' 64-bit entry
	bzLoadedHigh   = 1
	bzKernel64     = 1
	bzSector       = 512
	bzDefaultSects = 4     // what setup_sects 0 means
	bzEntry64      = 0x200 // offset of the 64-bit entry in the protected-mode part
)

// parseBzImage finds the protected-mode part of a bzImage, which goes to the
// kernel's preferred address and is entered 0x200 bytes into it.
//
// Precondition: len(data) >= bzHeaderEnd.
func parseBzImage(data []byte) (*Image, error) {
	le := binary.LittleEndian
	switch version := le.Uint16(data[bzVersion:]); {
	case le.Uint16(data[bzBootFlag:]) != bzBootFlagAA55:
		return nil, fmt.Errorf("%w: bzImage without boot flag", ErrFormat)
	case version < bzMinVersion:
		return nil, fmt.Errorf("%w: boot protocol %d.%02d, need 2.12", ErrFormat, version>>8, version&0xFF)
	case data[bzLoadFlags]&bzLoadedHigh == 0:
		return nil, fmt.Errorf("%w: zImage, not bzImage", ErrFormat)
	case le.Uint16(data[bzXLoadFlags:])&bzKernel64 == 0:
		return nil, fmt.Errorf("%w: bzImage without 64-bit entry point", ErrFormat)
	}
	sects := uint64(data[bzSetupSects])
	if sects == 0 {
		sects = bzDefaultSects
	}
	setup := (sects + 1) * bzSector // the boot sector is not counted
	header := bzMagic + uint64(data[bzHeaderLength])
	if header < bzHeaderEnd { // at most 0x301, which two sectors always hold
		return nil, fmt.Errorf("%w: setup header ends at %#x", ErrFormat, header)
	}
	// Signed kernels carry a signature after the protected-mode part; unsigned ones
	// may lack the padding of the last 16-byte unit.
	size := uint64(le.Uint32(data[bzSysSize:])) * 16
	if size <= bzEntry64 {
		return nil, fmt.Errorf("%w: bzImage with %d bytes of kernel", ErrFormat, size)
	}
	if setup >= uint64(len(data)) || size > uint64(len(data))-setup+15 {
		return nil, fmt.Errorf("%w: %#x bytes of kernel at %#x in a file of %#x", ErrTruncated, size, setup, len(data))
	}
	size = min(size, uint64(len(data))-setup)
	addr := le.Uint64(data[bzPrefAddress:])
	img := &Image{
		Format: FormatBzImage,
		Entry:  addr + bzEntry64,
		Segments: []Segment{{
			Addr: addr, Data: data[setup : setup+size : setup+size],
			MemSize: max(uint64(le.Uint32(data[bzInitSize:])), size), Offset: int64(setup),
		}},
		SetupHeader: data[bzSetupSects:header:header],
		Initrd:      true, // the boot protocol has no way to say otherwise
	}
	return img, nil
}
