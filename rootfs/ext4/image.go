package ext4

import (
	"fmt"
	"io"
	"os"
)

// image is a file that holds a file system.
type image interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
}

// imageFile is an image in a file of the host.
type imageFile struct{ *os.File }

func (f imageFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is no regular file", f.Name())
	}
	return info.Size(), nil
}

// volume is a file system in an image, as a hostile guest may have left it: every block
// number is checked before it is used.
type volume struct {
	image
	super *superblock
	geo   geometry
}

func openVolume(img image) (*volume, error) {
	s, err := readSuper(img)
	if err != nil {
		return nil, err
	}
	v := &volume{image: img, super: s, geo: newGeometry(s)}
	size, err := img.Size()
	if err != nil {
		return nil, err
	}
	if uint64(size)/uint64(v.geo.blockSize) < v.geo.blocks {
		return nil, fmt.Errorf("%w: an image of %d bytes for %d blocks of %d", ErrCorrupt, size, v.geo.blocks, v.geo.blockSize)
	}
	return v, nil
}

// read returns count blocks from number on.
func (v *volume) read(number uint64, count uint32) ([]byte, error) {
	if number >= v.geo.blocks || uint64(count) > v.geo.blocks-number {
		return nil, fmt.Errorf("%w: block %d lies outside", ErrCorrupt, number)
	}
	p := make([]byte, int(count)*int(v.geo.blockSize))
	if n, err := v.ReadAt(p, v.geo.offset(number)); n < len(p) {
		return nil, fmt.Errorf("read block %d: %w", number, err)
	}
	return p, nil
}

// write stores p in the blocks from number on.
func (v *volume) write(number uint64, p []byte) error {
	if number >= v.geo.blocks || uint64(len(p))/uint64(v.geo.blockSize) > v.geo.blocks-number {
		return fmt.Errorf("%w: block %d lies outside", ErrCorrupt, number)
	}
	_, err := v.WriteAt(p, v.geo.offset(number))
	return err
}

// writeSuper stores the primary superblock.
func (v *volume) writeSuper() error {
	v.super.seal()
	_, err := v.WriteAt(v.super[:], superOffset)
	return err
}

// inode returns the block of group 0's inode table that holds inode number, which block
// that is, and where in it the inode lies.
func (v *volume) inode(number uint32) (block []byte, at uint64, offset uint64, err error) {
	gdt, err := v.read(uint64(v.geo.first)+1, 1)
	if err != nil {
		return nil, 0, 0, err
	}
	first := descriptor(gdt[:v.geo.descSize])
	if !first.sealed(v.geo.seed, 0) {
		return nil, 0, 0, fmt.Errorf("%w: checksum of group 0 is wrong", ErrCorrupt)
	}
	group, offset := v.geo.inodeAt(number)
	if group != 0 {
		return nil, 0, 0, fmt.Errorf("%w: inode %d lies in group %d", ErrUnsupported, number, group)
	}
	size := uint64(v.geo.blockSize)
	at, offset = first.inodeTable()+offset/size, offset%size
	if block, err = v.read(at, 1); err != nil {
		return nil, 0, 0, err
	}
	if !inodeSealed(block[offset:][:v.geo.inodeSize], v.geo.seed, number) {
		return nil, 0, 0, fmt.Errorf("%w: checksum of inode %d is wrong", ErrCorrupt, number)
	}
	return block, at, offset, nil
}
