package erofs

import (
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// maxFile bounds the size of a file on other devices: 2^32 blocks.
const maxFile = 1 << (32 + blockBits)

// checkChunks validates the chunk format and that the indexes lie in the image; what
// they point to is checked when it is read.
func (f *File) checkChunks(union uint32) error {
	format := uint16(union)
	if f.Inode.Type() != tree.TypeRegular || format&^(chunkIndexes|chunkBitsMask) != 0 || format&chunkIndexes == 0 {
		return fmt.Errorf("%w: file type %#o in chunks of format %#x", ErrUnsupported, f.Inode.Type(), format)
	}
	if f.bits = uint8(format & chunkBitsMask); f.size > maxFile {
		return fmt.Errorf("%w: %d bytes in chunks", ErrCorrupt, f.size)
	}
	f.start = align(f.addr+f.body, chunkEntry)
	count := (blocks(f.size) + 1<<f.bits - 1) >> f.bits
	if f.start+count*chunkEntry > f.r.blocks<<blockBits {
		return fmt.Errorf("%w: %d chunk indexes lie outside", ErrCorrupt, count)
	}
	return nil
}

// chunks reads a file through its chunk indexes.
type chunks File

func (c *chunks) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: negative offset", ErrCorrupt)
	}
	pos, done := uint64(off), 0
	for done < len(p) && pos < c.size {
		number, inside := pos>>(c.bits+blockBits), pos&(1<<(c.bits+blockBits)-1)
		length := min(c.size-number<<(c.bits+blockBits), 1<<(c.bits+blockBits))
		n := int(min(uint64(len(p)-done), length-inside))
		if err := c.chunk(p[done:done+n], number, inside, length); err != nil {
			return done, err
		}
		done += n
		pos += uint64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// chunk reads p from byte inside of a chunk that has length bytes.
func (c *chunks) chunk(p []byte, number, inside, length uint64) error {
	var entry [chunkEntry]byte
	if err := c.r.read(entry[:], c.start+number*chunkEntry); err != nil {
		return err
	}
	device, block := le.Uint16(entry[2:]), le.Uint32(entry[4:])
	if block == noBlock { // a hole
		clear(p)
		return nil
	}
	addr, err := c.r.locate(device, uint64(block), blocks(length))
	if err != nil {
		return err
	}
	return readFull(c.r.at, p, int64(addr+inside))
}
