package erofs

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
)

const (
	// BlockSize is the block size of images that Build writes, in bytes.
	BlockSize = 4096

	blockBits   = 12
	superOffset = 1024
	superSize   = 128
	magic       = 0xE0F5E1E2

	compatChecksum  = 0x1
	incompatChunks  = 0x4
	incompatDevices = 0x8

	slotSize     = 32 // a nid counts slots of this size from the metadata area's start
	slotBits     = 5
	compactSize  = 32
	extendedSize = 64

	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4

	chunkIndexes  = 0x20 // chunk format bit: entries of eight bytes with a device number
	chunkBitsMask = 0x1f // chunk format bits: blocks in a chunk, as a power of two
	chunkEntry    = 8
	maxChunkBits  = 20

	deviceSlot  = 128
	firstDevice = superOffset + superSize // the device table follows the superblock
	maxDevices  = 4096

	noBlock = math.MaxUint32 // start block of an inode without out-of-line data

	// maxTarget is the longest symbolic link that Linux shows whole (PATH_MAX - 1).
	maxTarget = BlockSize - 1

	direntSize       = 12
	xattrHeaderSize  = 12
	xattrEntrySize   = 4
	maxInlineXattrs  = 65535 // counted in units of four bytes, see xattrUnits
	maxXattrNameLen  = 255
	maxXattrValueLen = 65535
)

var (
	// ErrTree reports a tree that an image cannot represent; the text names the file.
	ErrTree = errors.New("tree cannot be stored in EROFS")
	// ErrContent reports that the content of a file was shorter than its size.
	ErrContent = errors.New("file content ends early")
	// ErrCorrupt reports an image whose structures contradict each other or point
	// outside of it.
	ErrCorrupt = errors.New("corrupt EROFS image")
	// ErrUnsupported reports a valid image that uses features this reader lacks, such
	// as compression.
	ErrUnsupported = errors.New("unsupported EROFS feature")
)

const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// encodeDev packs a device number as Linux' new_encode_dev does.
func encodeDev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func decodeDev(dev uint32) (major, minor uint32) {
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

func align(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

func blocks(n uint64) uint64 { return align(n, BlockSize) >> blockBits }

// superChecksum is the CRC-32C of the superblock's block from the superblock on, with
// the checksum field zero, without the customary final inversion.
func superChecksum(p []byte) uint32 {
	return ^crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))
}

var le = binary.LittleEndian
