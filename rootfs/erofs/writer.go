package erofs

import (
	"bufio"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Info describes a written image.
type Info struct {
	Inodes uint64 // hard links count once
	Blocks uint64 // of BlockSize bytes; the length of the image
}

// Size returns the length of the image in bytes, a multiple of BlockSize.
func (i Info) Size() int64 { return int64(i.Blocks) * BlockSize }

// Build writes t to w as an EROFS image, sequentially and in bounded memory apart from
// the plan (some 150 bytes an inode). Content is read from the inodes' readers once.
//
// Layout: block 0 holds the superblock (checksummed; UUID, label and build time zero,
// so the image depends on t alone), then come the inodes in depth-first order of
// sorted names, then file data in the same order. Every inode is extended; xattrs are
// inline; a regular file occupies whole blocks, tails of directories and symbolic
// links lie behind their inode where they fit. Xattrs outside the prefixes user,
// trusted, security and the POSIX ACLs are left out. Link counts are computed from
// the tree. Whiteouts and opaque marks of tree are not represented.
//
// Errors wrap ErrTree if the tree cannot be represented, ErrContent if a file is
// shorter than its size, or are those of w and of the content readers.
func Build(w io.Writer, t *tree.Tree) (Info, error) {
	p, err := newPlan(t)
	if err != nil {
		return Info{}, err
	}
	out := &writer{plan: p, w: bufio.NewWriterSize(w, 256<<10), first: p.firstData()}
	info := Info{Inodes: uint64(len(p.slots)), Blocks: out.first + p.data}
	if err := out.super(info); err != nil {
		return Info{}, err
	}
	if err := out.metadata(); err != nil {
		return Info{}, err
	}
	if err := out.data(); err != nil {
		return Info{}, err
	}
	return info, out.w.Flush()
}

type writer struct {
	*plan
	w     *bufio.Writer
	first uint64 // block number of the data area
	buf   []byte // reused inode record or copy buffer
}

func (w *writer) super(info Info) error {
	block := make([]byte, BlockSize)
	s := block[superOffset:]
	le.PutUint32(s[0x00:], magic)
	le.PutUint32(s[0x08:], compatChecksum)
	s[0x0C] = blockBits
	le.PutUint16(s[0x0E:], uint16(w.nid(0)))
	le.PutUint64(s[0x10:], info.Inodes)
	le.PutUint32(s[0x24:], uint32(info.Blocks))
	le.PutUint32(s[0x28:], 1) // metadata begins in block 1
	le.PutUint32(s[0x04:], superChecksum(s))
	_, err := w.w.Write(block)
	return err
}

func (w *writer) metadata() error {
	var at uint64
	for i := range w.slots {
		s := &w.slots[i]
		if err := w.zeros(s.offset - at); err != nil {
			return err
		}
		w.buf = w.inode(w.buf[:0], s)
		if s.xattrs > 0 {
			w.buf = appendXattrs(w.buf, s.node)
		}
		if s.inline {
			content := w.structured(i)
			w.buf = append(w.buf, content[s.size&^(BlockSize-1):]...)
		}
		if _, err := w.w.Write(w.buf); err != nil {
			return err
		}
		at = s.offset + uint64(len(w.buf))
	}
	return w.zeros(align(at, BlockSize) - at)
}

func (w *writer) inode(p []byte, s *slot) []byte {
	n := s.node
	union := uint32(noBlock)
	switch {
	case n.Type() == tree.TypeChar || n.Type() == tree.TypeBlock:
		union = encodeDev(n.Major, n.Minor)
	case n.Type() == tree.TypeFIFO || n.Type() == tree.TypeSocket:
		union = 0
	case s.outside() > 0:
		union = uint32(w.first + s.start)
	}
	p = le.AppendUint16(p, 1|s.layout()<<1) // bit 0: extended
	p = le.AppendUint16(p, xattrUnits(s.xattrs))
	p = le.AppendUint16(p, uint16(n.Mode))
	p = le.AppendUint16(p, 0)
	p = le.AppendUint64(p, s.size)
	p = le.AppendUint32(p, union)
	p = le.AppendUint32(p, uint32(s.offset>>slotBits))
	p = le.AppendUint32(p, n.UID)
	p = le.AppendUint32(p, n.GID)
	p = le.AppendUint64(p, uint64(n.MTime.Sec))
	p = le.AppendUint32(p, n.MTime.Nsec)
	p = le.AppendUint32(p, s.links)
	return append(p, make([]byte, extendedSize-48)...)
}

// structured returns the content of a directory or symbolic link.
func (w *writer) structured(number int) []byte {
	s := &w.slots[number]
	if !s.node.IsDir() {
		return []byte(s.node.Target)
	}
	return encodeDir(s.names, s.size, func(name string) dirent {
		switch name {
		case ".":
			return dirent{w.nid(number), fileType(tree.TypeDir)}
		case "..":
			return dirent{w.nid(s.parent), fileType(tree.TypeDir)}
		}
		child := s.node.Child(name)
		return dirent{w.nid(w.index[child]), fileType(child.Mode)}
	})
}

func (w *writer) data() error {
	for i := range w.slots {
		s := &w.slots[i]
		n := s.outside() << blockBits
		if n == 0 {
			continue
		}
		if s.node.Type() == tree.TypeRegular {
			if err := w.file(s); err != nil {
				return err
			}
		} else if _, err := w.w.Write(w.structured(i)[:min(n, s.size)]); err != nil {
			return err
		}
		if n > s.size {
			if err := w.zeros(n - s.size); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) file(s *slot) error {
	if cap(w.buf) < 256<<10 {
		w.buf = make([]byte, 256<<10)
	}
	buf := w.buf[:cap(w.buf)]
	for done := uint64(0); done < s.size; {
		part := buf[:min(uint64(len(buf)), s.size-done)]
		n, err := s.node.Content.ReadAt(part, s.node.Offset+int64(done))
		if n < len(part) {
			if err == nil || err == io.EOF {
				err = ErrContent
			}
			return fmt.Errorf("%w: %d of %d bytes", err, done+uint64(n), s.size)
		}
		if _, err := w.w.Write(part); err != nil {
			return err
		}
		done += uint64(n)
	}
	return nil
}

func (w *writer) zeros(n uint64) error {
	var zero [BlockSize]byte
	for n > 0 {
		part := min(n, BlockSize)
		if _, err := w.w.Write(zero[:part]); err != nil {
			return err
		}
		n -= part
	}
	return nil
}
