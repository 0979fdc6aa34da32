package erofs

import (
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// File is one inode of an image. Inode carries its attributes without directory
// entries; the content of a regular file is readable through it as long as the
// image's reader is.
type File struct {
	Inode tree.Inode
	NID   uint64 // number within the image
	Links uint32 // hard links, as stored
	size  uint64

	r      *Reader
	addr   uint64 // of the inode record
	body   uint64 // bytes of inode record and xattrs
	start  uint64 // byte address of the out-of-line data
	layout uint16
	bits   uint8 // blocks in a chunk, as a power of two
	weight int   // bytes of memory the xattrs take
}

// maxXattrBytes bounds the xattrs of one file, shared ones included.
const maxXattrBytes = 1 << 20

// File reads the inode numbered nid.
func (r *Reader) File(nid uint64) (*File, error) {
	if nid > (r.blocks<<blockBits-r.meta)>>slotBits || r.meta >= r.blocks<<blockBits {
		return nil, fmt.Errorf("%w: inode %d lies outside", ErrCorrupt, nid)
	}
	f := &File{NID: nid, r: r, addr: r.meta + nid<<slotBits}
	var p [extendedSize]byte
	if err := r.read(p[:compactSize], f.addr); err != nil {
		return nil, err
	}
	format := le.Uint16(p[0:])
	f.body = compactSize
	if format&1 != 0 {
		f.body = extendedSize
		if err := r.read(p[compactSize:], f.addr+compactSize); err != nil {
			return nil, err
		}
	}
	switch f.layout = format >> 1; f.layout {
	case layoutPlain, layoutInline, layoutChunks:
	default:
		return nil, fmt.Errorf("%w: inode %d has data layout %d", ErrUnsupported, nid, f.layout)
	}
	union := f.decode(&p, format&1 != 0)
	if units := uint64(le.Uint16(p[2:])); units > 0 {
		size := xattrHeaderSize + (units-1)*4
		if err := f.xattrs(size); err != nil {
			return nil, fmt.Errorf("inode %d: %w", nid, err)
		}
		f.body += size
	}
	if err := f.check(union); err != nil {
		return nil, fmt.Errorf("inode %d: %w", nid, err)
	}
	return f, nil
}

func (f *File) decode(p *[extendedSize]byte, extended bool) (union uint32) {
	n := &f.Inode
	n.Mode = uint32(le.Uint16(p[4:]))
	union = le.Uint32(p[16:])
	if extended {
		f.size = le.Uint64(p[8:])
		n.UID, n.GID = le.Uint32(p[24:]), le.Uint32(p[28:])
		n.MTime = tree.Time{Sec: int64(le.Uint64(p[32:])), Nsec: le.Uint32(p[40:])}
		f.Links = le.Uint32(p[44:])
		return union
	}
	f.Links = uint32(le.Uint16(p[6:]))
	f.size = uint64(le.Uint32(p[8:]))
	n.UID, n.GID = uint32(le.Uint16(p[24:])), uint32(le.Uint16(p[26:]))
	n.MTime = f.r.time
	return union
}

// check validates type, size and data addresses, and fills in what depends on them.
func (f *File) check(union uint32) error {
	n := &f.Inode
	if n.MTime.Nsec >= 1e9 {
		return fmt.Errorf("%w: %d nanoseconds", ErrCorrupt, n.MTime.Nsec)
	}
	switch n.Type() {
	case tree.TypeRegular, tree.TypeDir, tree.TypeSymlink:
	case tree.TypeChar, tree.TypeBlock:
		n.Major, n.Minor = decodeDev(union)
		return nil
	case tree.TypeFIFO, tree.TypeSocket:
		return nil
	default:
		return fmt.Errorf("%w: file type %#o", ErrCorrupt, n.Type())
	}
	if err := f.checkData(union); err != nil {
		return err
	}
	if n.Type() == tree.TypeRegular {
		n.Size = int64(f.size)
		switch {
		case n.Size == 0:
		case f.layout == layoutPlain:
			n.Content, n.Offset = f.r, int64(f.start)
		case f.layout == layoutChunks:
			n.Content = (*chunks)(f)
		default:
			n.Content = (*content)(f)
		}
		return nil
	}
	if n.Type() == tree.TypeSymlink {
		if f.size == 0 || f.size > maxTarget {
			return fmt.Errorf("%w: symbolic link of %d bytes", ErrCorrupt, f.size)
		}
		target := make([]byte, f.size)
		if _, err := (*content)(f).ReadAt(target, 0); err != nil && err != io.EOF {
			return err
		}
		n.Target = string(target)
	}
	return nil
}

// checkData validates where the data of a file with content lie.
func (f *File) checkData(union uint32) error {
	if f.layout == layoutChunks {
		return f.checkChunks(union)
	}
	limit := f.r.blocks << blockBits
	if f.size > limit {
		return fmt.Errorf("%w: %d bytes in an image of %d", ErrCorrupt, f.size, limit)
	}
	outside := f.size
	if f.layout == layoutInline {
		tail := f.size % BlockSize
		outside -= tail
		if begin := (f.addr + f.body) % BlockSize; begin+tail > BlockSize {
			return fmt.Errorf("%w: inline tail crosses a block", ErrCorrupt)
		}
		if f.addr+f.body+tail > limit {
			return fmt.Errorf("%w: inline tail lies outside", ErrCorrupt)
		}
	}
	if outside > 0 {
		f.start = uint64(union) << blockBits
		if f.start+align(outside, BlockSize) > limit {
			return fmt.Errorf("%w: data in blocks from %d lie outside", ErrCorrupt, union)
		}
	}
	return nil
}

// content reads the data of a plain or inline file wherever they lie.
type content File

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: negative offset", ErrCorrupt)
	}
	pos, done := uint64(off), 0
	outside := c.size
	if c.layout == layoutInline {
		outside &^= BlockSize - 1
	}
	for done < len(p) && pos < c.size {
		addr, end := c.start+pos, outside
		if pos >= outside {
			addr, end = c.addr+c.body+(pos-outside), c.size
		}
		n := int(min(uint64(len(p)-done), end-pos))
		if err := c.r.read(p[done:done+n], addr); err != nil {
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

// xattrs reads the attributes in the size bytes behind the inode record, and the
// shared ones that they refer to.
func (f *File) xattrs(size uint64) error {
	p := make([]byte, size)
	if err := f.r.read(p, f.addr+f.body); err != nil {
		return err
	}
	count := uint64(p[4])
	rest := p[xattrHeaderSize:]
	if count*4 > uint64(len(rest)) {
		return fmt.Errorf("%w: %d shared xattrs in %d bytes", ErrCorrupt, count, len(rest))
	}
	for i := range count {
		if err := f.sharedXattr(uint64(le.Uint32(rest[i*4:]))); err != nil {
			return err
		}
	}
	for rest = rest[count*4:]; len(rest) > 0; {
		if len(rest) < xattrEntrySize {
			return fmt.Errorf("%w: xattr entry cut short", ErrCorrupt)
		}
		n := xattrEntrySize + uint64(rest[0]) + uint64(le.Uint16(rest[2:]))
		if n > uint64(len(rest)) {
			return fmt.Errorf("%w: xattr of %d bytes in %d", ErrCorrupt, n, len(rest))
		}
		if err := f.addXattr(rest[:n]); err != nil {
			return err
		}
		rest = rest[min(align(n, 4), uint64(len(rest))):]
	}
	return nil
}

func (f *File) sharedXattr(id uint64) error {
	addr := f.r.shared + id*4
	var head [xattrEntrySize]byte
	if err := f.r.read(head[:], addr); err != nil {
		return err
	}
	p := make([]byte, xattrEntrySize+int(head[0])+int(le.Uint16(head[2:])))
	if err := f.r.read(p, addr); err != nil {
		return err
	}
	// The lengths just checked, not the ones of a second read, decide.
	copy(p, head[:])
	return f.addXattr(p)
}

// addXattr decodes an entry that is exactly as long as its header says.
func (f *File) addXattr(p []byte) error {
	suffix := string(p[xattrEntrySize : xattrEntrySize+int(p[0])])
	value := p[xattrEntrySize+int(p[0]):]
	prefix, ok := tree.XattrPrefix(p[1])
	if !ok {
		return fmt.Errorf("%w: xattr name prefix %d", ErrUnsupported, p[1])
	}
	name := prefix + suffix
	if f.weight += len(name) + len(value); f.weight > maxXattrBytes {
		return fmt.Errorf("%w: more than %d bytes of xattrs on one file", ErrUnsupported, maxXattrBytes)
	}
	if _, twice := f.Inode.Xattr(name); twice {
		return fmt.Errorf("%w: xattr %q twice", ErrCorrupt, name)
	}
	f.Inode.SetXattr(name, value)
	return nil
}
