package erofs

import (
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Reader reads an uncompressed EROFS image of BlockSize blocks that lies in one file:
// what Build writes and what mkfs.erofs writes without compression, chunks or extra
// devices. It keeps no state beyond the superblock and is safe for concurrent use.
// Images may be hostile: every answer is either inside the image or an error that
// wraps ErrCorrupt or ErrUnsupported.
type Reader struct {
	at     io.ReaderAt
	size   uint64
	blocks uint64
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
	if le.Uint32(s) != magic {
		return nil, fmt.Errorf("%w: no EROFS superblock", ErrCorrupt)
	}
	if s[0x0C] != blockBits || s[0x5A] != 0 {
		return nil, fmt.Errorf("%w: block size 2^%d, directory blocks 2^%d larger", ErrUnsupported, s[0x0C], s[0x5A])
	}
	if incompat := le.Uint32(s[0x50:]); incompat != 0 {
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
	}
	if r.blocks<<blockBits > r.size || r.blocks == 0 {
		return nil, fmt.Errorf("%w: %d blocks in a file of %d bytes", ErrCorrupt, r.blocks, size)
	}
	if r.time.Nsec >= 1e9 {
		return nil, fmt.Errorf("%w: %d nanoseconds in the build time", ErrCorrupt, r.time.Nsec)
	}
	return r, nil
}

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
