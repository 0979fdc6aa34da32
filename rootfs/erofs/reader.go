package erofs

import (
	"bytes"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Reader reads an uncompressed EROFS image of BlockSize blocks: what this package writes
// and what mkfs.erofs writes without compression. Content on extra devices is found
// where the kernel looks for it on a stitched disk, of which the image is the beginning.
// It keeps no state beyond the superblock and is safe for concurrent use. Images may be
// hostile: every answer is either inside the image or an error that wraps ErrCorrupt or
// ErrUnsupported.
type Reader struct {
	at     io.ReaderAt
	size   uint64
	blocks uint64
	super  [superSize]byte
	label  string
	extra  []extent
	meta   uint64 // byte address of the metadata area
	shared uint64 // byte address of the shared xattrs
	root   uint64
	inodes uint64
	time   tree.Time // of compact inodes, which have none
}

// NewReader checks the superblock of the image of size bytes in at.
func NewReader(at io.ReaderAt, size int64) (*Reader, error) {
	if size < BlockSize {
		return nil, fmt.Errorf("%w: %d bytes are less than one block", ErrCorrupt, size)
	}
	block := make([]byte, BlockSize)
	if err := readFull(at, block, 0); err != nil {
		return nil, err
	}
	s := block[superOffset:]
	super := [superSize]byte(s)
	if le.Uint32(s) != magic {
		return nil, fmt.Errorf("%w: no EROFS superblock", ErrCorrupt)
	}
	if s[0x0C] != blockBits || s[0x5A] != 0 {
		return nil, fmt.Errorf("%w: block size 2^%d, directory blocks 2^%d larger", ErrUnsupported, s[0x0C], s[0x5A])
	}
	incompat := le.Uint32(s[0x50:])
	if incompat&^(incompatChunks|incompatDevices) != 0 {
		return nil, fmt.Errorf("%w: incompatible feature bits %#x", ErrUnsupported, incompat)
	}
	if le.Uint32(s[0x08:])&compatChecksum != 0 {
		want := le.Uint32(s[0x04:])
		le.PutUint32(s[0x04:], 0)
		if got := superChecksum(s); got != want {
			return nil, fmt.Errorf("%w: superblock checksum %08x, computed %08x", ErrCorrupt, want, got)
		}
	}
	r := &Reader{
		at: at, size: uint64(size),
		blocks: uint64(le.Uint32(s[0x24:])),
		meta:   uint64(le.Uint32(s[0x28:])) << blockBits,
		shared: uint64(le.Uint32(s[0x2C:])) << blockBits,
		root:   uint64(le.Uint16(s[0x0E:])),
		inodes: le.Uint64(s[0x10:]),
		time:   tree.Time{Sec: int64(le.Uint64(s[0x18:])), Nsec: le.Uint32(s[0x20:])},
		super:  super,
		label:  string(bytes.TrimRight(s[0x40:0x50], "\x00")),
	}
	if r.blocks<<blockBits > r.size || r.blocks == 0 {
		return nil, fmt.Errorf("%w: %d blocks in a file of %d bytes", ErrCorrupt, r.blocks, size)
	}
	if r.time.Nsec >= 1e9 {
		return nil, fmt.Errorf("%w: %d nanoseconds in the build time", ErrCorrupt, r.time.Nsec)
	}
	if incompat&incompatDevices != 0 {
		if err := r.devices(int(le.Uint16(s[0x56:])), uint64(le.Uint16(s[0x58:]))); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// extent is a range of blocks of the stitched disk.
type extent struct{ first, count uint64 }

// devices reads the device table. That the devices are there is checked when they are
// read from.
func (r *Reader) devices(count int, first uint64) error {
	if count > maxDevices {
		return fmt.Errorf("%w: %d extra devices", ErrUnsupported, count)
	}
	table := make([]byte, count*deviceSlot)
	if err := r.read(table, first*deviceSlot); err != nil {
		return fmt.Errorf("device table: %w", err)
	}
	r.extra = make([]extent, count)
	for i := range r.extra {
		slot := table[i*deviceSlot:]
		r.extra[i] = extent{first: uint64(le.Uint32(slot[0x44:])), count: uint64(le.Uint32(slot[0x40:]))}
	}
	return nil
}

// Devices returns the lengths in blocks of the extra devices that hold content.
func (r *Reader) Devices() []uint32 {
	counts := make([]uint32, len(r.extra))
	for i, e := range r.extra {
		counts[i] = uint32(e.count)
	}
	return counts
}

// Super returns the superblock. Images of the same files that are laid out differently
// differ in it: by label, length or checksum.
func (r *Reader) Super() [superSize]byte { return r.super }

// ID returns the UUID.
func (r *Reader) ID() [16]byte { return [16]byte(r.super[0x30:0x40]) }

// OwnLayer reports whether LayerWriter made the image, OwnMeta whether BuildMeta did.
func (r *Reader) OwnLayer() bool { return r.label == layerLabel }

// OwnMeta is described at OwnLayer.
func (r *Reader) OwnMeta() bool { return r.label == metaLabel }

// locate returns the byte address of blocks of a device on the stitched disk; device 0
// is the image.
func (r *Reader) locate(device uint16, block, count uint64) (uint64, error) {
	e := extent{count: r.blocks}
	if device > 0 {
		if int(device) > len(r.extra) {
			return 0, fmt.Errorf("%w: device %d of %d", ErrCorrupt, device, len(r.extra))
		}
		e = r.extra[device-1]
	}
	if block+count > e.count {
		return 0, fmt.Errorf("%w: blocks %d to %d of device %d, which has %d", ErrCorrupt, block, block+count, device, e.count)
	}
	return (e.first + block) << blockBits, nil
}

// ReadAt reads the image, or the stitched disk that it begins, as it is.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) { return r.at.ReadAt(p, off) }

// Blocks returns the length of the image in blocks of BlockSize, as the superblock
// states it.
func (r *Reader) Blocks() uint64 { return r.blocks }

// Inodes returns the number of inodes that the superblock states.
func (r *Reader) Inodes() uint64 { return r.inodes }

// Root returns the root directory.
func (r *Reader) Root() (*File, error) {
	root, err := r.File(r.root)
	if err != nil {
		return nil, fmt.Errorf("root inode: %w", err)
	}
	if !root.Inode.IsDir() {
		return nil, fmt.Errorf("%w: the root is no directory", ErrCorrupt)
	}
	return root, nil
}

// read fills p from byte address addr, which must lie in the image's blocks.
func (r *Reader) read(p []byte, addr uint64) error {
	end := addr + uint64(len(p))
	if end < addr || end > r.blocks<<blockBits {
		return fmt.Errorf("%w: %d bytes at %#x lie outside", ErrCorrupt, len(p), addr)
	}
	return readFull(r.at, p, int64(addr))
}

func readFull(at io.ReaderAt, p []byte, off int64) error {
	n, err := at.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return fmt.Errorf("%w: truncated at %#x", ErrCorrupt, off+int64(n))
	}
	return err
}
