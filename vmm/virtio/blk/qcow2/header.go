package qcow2

import (
	"encoding/binary"
	"fmt"
)

const (
	magic = 0x514649fb // "QFI\xfb"

	headerV2, headerV3 = 72, 104 // least sizes of a header in bytes

	minClusterBits, maxClusterBits = 9, 21
	maxRefcountOrder               = 6

	// maxL1 and maxTable bound the L1 table and the table of reference counts in bytes,
	// to what QEMU takes.
	maxL1, maxTable = 32 << 20, 8 << 20

	incompatDirty, incompatCorrupt, incompatData, incompatCompression, incompatExtended = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4

	compressionDeflate, compressionZstd = 0, 1

	// Offsets in the header.
	headerTable     = 48 // offset and clusters of the table of reference counts
	headerAutoclear = 88
)

// header is what this package needs of an image's header.
type header struct {
	version       uint32
	clusterBits   uint32
	size          uint64 // of the disk in bytes
	l1Entries     uint64
	l1Off         uint64
	tableOff      uint64 // of the table of reference counts
	tableClusters uint64
	refcountOrder uint32 // a count has 1<<refcountOrder bits
	incompatible  uint64
	autoclear     uint64
	compression   byte
}

func (h *header) clusterSize() uint64 { return 1 << h.clusterBits }

// l2Entries is how many clusters one L2 table describes.
func (h *header) l2Entries() uint64 { return h.clusterSize() / 8 }

// blockEntries is how many counts one block holds.
func (h *header) blockEntries() uint64 { return h.clusterSize() * 8 >> h.refcountOrder }

// parseHeader decodes and checks the first bytes of a file that is length long.
func parseHeader(b []byte, length uint64) (h header, err error) {
	be := binary.BigEndian
	if len(b) < headerV2 || be.Uint32(b) != magic {
		return h, ErrFormat
	}
	h = header{
		version: be.Uint32(b[4:]), clusterBits: be.Uint32(b[20:]), size: be.Uint64(b[24:]),
		l1Entries: uint64(be.Uint32(b[36:])), l1Off: be.Uint64(b[40:]),
		tableOff: be.Uint64(b[headerTable:]), tableClusters: uint64(be.Uint32(b[headerTable+8:])), refcountOrder: 4,
	}
	headerSize := uint64(headerV2)
	switch {
	case h.version == 3 && len(b) < headerV3:
		return h, fmt.Errorf("%w: its header is cut off", ErrFormat)
	case h.version == 3:
		h.incompatible, h.autoclear = be.Uint64(b[72:]), be.Uint64(b[headerAutoclear:])
		h.refcountOrder = be.Uint32(b[96:])
		if headerSize = uint64(be.Uint32(b[100:])); headerSize > headerV3 && len(b) > headerV3 {
			h.compression = b[headerV3]
		}
		if headerSize < headerV3 || headerSize%8 != 0 {
			return h, fmt.Errorf("%w: header of %d bytes", ErrFormat, headerSize)
		}
	case h.version != 2:
		return h, fmt.Errorf("%w: version %d", ErrFeature, h.version)
	}
	backing, crypt := be.Uint64(b[8:]), be.Uint32(b[32:])
	known := uint64(incompatDirty | incompatCorrupt | incompatCompression)
	switch {
	case h.incompatible&incompatData != 0:
		return h, ErrDataFile
	case h.incompatible&incompatExtended != 0:
		return h, fmt.Errorf("%w: extended L2 entries", ErrFeature)
	case h.incompatible&^known != 0:
		return h, fmt.Errorf("%w: incompatible features %#x", ErrFeature, h.incompatible&^known)
	case backing != 0:
		return h, ErrBackingFile
	case crypt != 0:
		return h, ErrEncrypted
	case h.compression > compressionZstd, (h.compression != 0) != (h.incompatible&incompatCompression != 0):
		return h, fmt.Errorf("%w: compression type %d", ErrFeature, h.compression)
	case h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits:
		return h, fmt.Errorf("%w: clusters of 1<<%d bytes", ErrFormat, h.clusterBits)
	case h.refcountOrder > maxRefcountOrder:
		return h, fmt.Errorf("%w: reference counts of 1<<%d bits", ErrFormat, h.refcountOrder)
	case headerSize > h.clusterSize():
		return h, fmt.Errorf("%w: header of %d bytes", ErrFormat, headerSize)
	}
	return h, h.checkTables(length)
}

// checkTables checks where the header says that the tables are.
func (h *header) checkTables(length uint64) error {
	perL1 := h.clusterSize() * h.l2Entries() // bytes of the disk; at most 1<<39
	inside := func(off, n uint64) bool {
		return off >= h.clusterSize() && off%h.clusterSize() == 0 && off <= length && n <= length-off
	}
	switch {
	case h.size < sectorSize:
		return fmt.Errorf("%w: disk of %d bytes", ErrFormat, h.size)
	case h.l1Entries > maxL1/8 || (h.size-1)/perL1+1 > h.l1Entries:
		return fmt.Errorf("%w: L1 table of %d entries for a disk of %d bytes", ErrFormat, h.l1Entries, h.size)
	case !inside(h.l1Off, h.l1Entries*8):
		return fmt.Errorf("%w: L1 table at %#x", ErrCorrupt, h.l1Off)
	case h.tableClusters == 0 || h.tableClusters > maxTable>>h.clusterBits:
		return fmt.Errorf("%w: table of reference counts has %d clusters", ErrFormat, h.tableClusters)
	case !inside(h.tableOff, h.tableClusters<<h.clusterBits):
		return fmt.Errorf("%w: table of reference counts at %#x", ErrCorrupt, h.tableOff)
	}
	return nil
}
