package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Geometry of the file systems that Create makes.
const (
	// BlockSize is their block size in bytes.
	BlockSize = 4096
	// DefaultSize is the size of a sandbox's upper unless it asks for another, in bytes.
	DefaultSize = 4 << 30
	// MinSize is the smallest image that Create makes, in bytes.
	MinSize = 8 << 20
	// MaxSize is the largest, in bytes: block numbers have 32 bits.
	MaxSize = (1<<32 - 1) * BlockSize

	groupBlocks  = 32768 // as many as one bitmap block describes
	groupInodes  = 8192  // one for each 16 KiB
	inodeSize    = 256
	extraSize    = 32 // i_extra_isize: the fields up to the project id
	descSize     = 64
	reservedGDT  = 256 // lets the file system grow by 2 TiB
	maxGDTBlocks = (1<<32/groupBlocks*descSize + BlockSize - 1) / BlockSize

	// spareBlocks is what the last group must offer beyond its own metadata to be worth
	// having; a shorter rest of the image stays unused.
	spareBlocks = 50

	// bitmapGroups is up to how many groups (128 GiB) an image gets all its bitmaps
	// written, two blocks each: microsandbox 0.6.18 grows no other. Beyond, that would
	// cost more than it helps, and untouched groups are only marked as such.
	bitmapGroups = 1024
)

const (
	superOffset = 1024
	superSize   = 1024
	magic       = 0xEF53

	inodeRoot    = 2
	inodeResize  = 7
	inodeJournal = 8
	firstInode   = 11

	stateValid = 0x1
	stateError = 0x2

	flagUnsignedHash = 0x2 // s_flags: names hash as unsigned characters

	hashHalfMD4 = 1
)

// Feature bits of the superblock.
const (
	compatJournal     = 0x0004
	compatExtAttr     = 0x0008
	compatResizeInode = 0x0010
	compatDirIndex    = 0x0020
	compatSparse2     = 0x0200
	compatFastCommit  = 0x0400
	compatOrphanFile  = 0x1000

	incompatFileType   = 0x0002
	incompatRecover    = 0x0004
	incompatExtents    = 0x0040
	incompat64Bit      = 0x0080
	incompatFlexBG     = 0x0200
	incompatEAInode    = 0x0400
	incompatCSumSeed   = 0x2000
	incompatLargeDir   = 0x4000
	incompatInlineData = 0x8000
	incompatEncrypt    = 0x10000
	incompatCaseFold   = 0x20000

	roSparseSuper   = 0x0001
	roLargeFile     = 0x0002
	roHugeFile      = 0x0008
	roDirNlink      = 0x0020
	roExtraIsize    = 0x0040
	roQuota         = 0x0100
	roBigAlloc      = 0x0200
	roMetadataCSum  = 0x0400
	roProject       = 0x2000
	roVerity        = 0x8000
	roOrphanPresent = 0x10000
)

var (
	// ErrOptions reports options that no file system can satisfy.
	ErrOptions = errors.New("invalid ext4 options")
	// ErrTree reports a tree that ext4 cannot represent; the text names the file.
	ErrTree = errors.New("tree cannot be stored in ext4")
	// ErrContent reports that the content of a file was shorter than its size.
	ErrContent = errors.New("file content ends early")
	// ErrSpace reports a tree that the file system is too small for.
	ErrSpace = errors.New("tree does not fit into the ext4 file system")
	// ErrNotExt4 reports an image that holds something else, or nothing.
	ErrNotExt4 = errors.New("no ext4 file system")
	// ErrCorrupt reports an image whose structures contradict each other or point
	// outside of it.
	ErrCorrupt = errors.New("corrupt ext4 file system")
	// ErrUnsupported reports a valid file system with features or a layout that this
	// package does not handle.
	ErrUnsupported = errors.New("unsupported ext4 feature")
	// ErrDirty reports a file system in which Linux has found errors. e2fsck mends it.
	ErrDirty = errors.New("ext4 file system needs a check")
)

// CapacityError reports that a file system cannot grow to the size wanted because the
// room for group descriptors, reserved when it was made, does not suffice.
type CapacityError struct {
	Want int64 // bytes
	Max  int64 // bytes it can grow to
}

func (e *CapacityError) Error() string {
	return fmt.Sprintf("ext4 file system cannot grow to %d bytes: it was made to grow up to %d; create a new one", e.Want, e.Max)
}

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

func divUp(n, by uint64) uint64 { return (n + by - 1) / by }

func alignUp(n, to int) int { return (n + to - 1) / to * to }
