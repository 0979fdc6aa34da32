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
// so that the image depends on t alone), then come the inodes in depth-first order of
// sorted names, then file data in the same order. Every inode is extended; xattrs are
// inline; a regular file occupies whole blocks, tails of directories and symbolic
// links lie behind their inode where they fit. Xattrs outside the prefixes user,
// trusted, security and the POSIX ACLs are left out. Link counts are computed from
// the tree. Marks for layers below are not represented; t must have no tree.TypeLink.
//
// Errors wrap ErrTree if the tree cannot be represented, ErrContent if a file is
// shorter than its size, or are those of w and of the content readers.
func Build(w io.Writer, t *tree.Tree) (Info, error) {
	p := &plan{begin: 1}
	if err := p.build(t); err != nil {
		return Info{}, err
	}
	return p.write(w, superblock{})
}

// superblock is what the superblocks of the kinds of images differ in.
type superblock struct {
	label    string
	id       [16]byte
	incompat uint32
	devices  []Device
}

// write writes the whole image.
func (p *plan) write(w io.Writer, s superblock) (Info, error) {
	out := &writer{plan: p, w: bufio.NewWriterSize(w, 256<<10), first: p.firstData()}
	if _, err := out.w.Write(p.head(s)); err != nil {
		return Info{}, err
	}
	if err := out.body(); err != nil {
		return Info{}, err
	}
	return p.info(), out.w.Flush()
}

func (p *plan) info() Info { return Info{Inodes: uint64(len(p.slots)), Blocks: p.total()} }

type writer struct {
	*plan
	w     *bufio.Writer
	first uint64 // block number of the data area
	buf   []byte // reused inode record or copy buffer
}

// head returns what lies before everything else: the superblock and the device table,
// in whole blocks.
func (p *plan) head(sb superblock) []byte {
	head := make([]byte, align(uint64(firstDevice+len(sb.devices)*deviceSlot), BlockSize))
	s := head[superOffset:BlockSize]
	info := p.info()
	le.PutUint32(s[0x00:], magic)
	le.PutUint32(s[0x08:], compatChecksum)
	s[0x0C] = blockBits
	le.PutUint16(s[0x0E:], uint16(p.nid(0)))
	le.PutUint64(s[0x10:], info.Inodes)
	le.PutUint32(s[0x24:], uint32(info.Blocks))
	le.PutUint32(s[0x28:], uint32(p.begin))
	copy(s[0x30:0x40], sb.id[:])
	copy(s[0x40:0x50], sb.label)
	le.PutUint32(s[0x50:], sb.incompat)
	if len(sb.devices) > 0 {
		le.PutUint16(s[0x56:], uint16(len(sb.devices)))
		le.PutUint16(s[0x58:], firstDevice/deviceSlot)
	}
	mapped := info.Blocks
	for i, d := range sb.devices {
		slot := head[firstDevice+i*deviceSlot:]
		le.PutUint32(slot[0x40:], d.Blocks)
		le.PutUint32(slot[0x44:], uint32(mapped))
		mapped += uint64(d.Blocks)
	}
	le.PutUint32(s[0x04:], superChecksum(s))
	return head
}

// body writes the metadata and data areas.
func (w *writer) body() error {
	if err := w.metadata(); err != nil {
		return err
	}
	return w.data()
}

func (w *writer) metadata() error {
	var at uint64
	for i := range w.slots {
		s := &w.slots[i]
		w.buf = append(w.buf[:0], zeroBlock[:s.offset-at]...)
		w.buf = w.inode(w.buf, s)
		if s.xattrs > 0 {
			w.buf = appendXattrs(w.buf, w.xattrs(s))
		}
		switch s.layout {
		case layoutInline:
			w.buf = w.structured(w.buf, s, s.size&^(BlockSize-1))
		case layoutChunks:
			w.buf = w.indexes(w.buf, s, at)
		}
		if _, err := w.w.Write(w.buf); err != nil {
			return err
		}
		at += uint64(len(w.buf))
	}
	return w.zeros(align(at, BlockSize) - at)
}

func (w *writer) inode(p []byte, s *slot) []byte {
	n := s.node
	union := uint32(noBlock)
	switch n.Type() {
	case tree.TypeChar, tree.TypeBlock:
		union = encodeDev(n.Major, n.Minor)
	case tree.TypeFIFO, tree.TypeSocket:
		union = 0
	}
	switch {
	case s.layout == layoutChunks:
		union = chunkIndexes | uint32(s.bits)
	case s.outside() > 0 && w.stored != nil && n.Type() == tree.TypeRegular:
		union = uint32(s.start)
	case s.outside() > 0:
		union = uint32(w.first + s.start)
	}
	p = le.AppendUint16(p, 1|s.layout<<1) // bit 0: extended
	p = le.AppendUint16(p, xattrUnits(s.xattrs))
	p = le.AppendUint16(p, uint16(s.mode()))
	p = le.AppendUint16(p, 0)
	p = le.AppendUint64(p, s.size)
	p = le.AppendUint32(p, union)
	p = le.AppendUint32(p, uint32(s.offset>>slotBits))
	p = le.AppendUint32(p, n.UID)
	p = le.AppendUint32(p, n.GID)
	p = le.AppendUint64(p, uint64(n.MTime.Sec))
	p = le.AppendUint32(p, n.MTime.Nsec)
	p = le.AppendUint32(p, s.links)
	return append(p, zeroBlock[:extendedSize-48]...)
}

// indexes appends the chunk indexes, which the kernel expects at the next multiple of
// their size; p begins at byte at of the metadata area.
func (w *writer) indexes(p []byte, s *slot, at uint64) []byte {
	end := at + uint64(len(p))
	p = append(p, zeroBlock[:align(end, chunkEntry)-end]...)
	for i := range s.chunks {
		p = le.AppendUint16(p, 0)
		p = le.AppendUint16(p, s.device)
		p = le.AppendUint32(p, uint32(s.start+i<<s.bits))
	}
	return p
}

// structured appends the content of a directory or link from byte from on.
func (w *writer) structured(p []byte, s *slot, from uint64) []byte {
	switch s.node.Type() {
	case tree.TypeSymlink:
		return append(p, s.node.Target[from:]...)
	case tree.TypeLink:
		return append(p, linkTarget(s.node)[from:]...)
	}
	begin := len(p)
	p = appendDir(p, s.names, func(i int) dirent {
		child := s.entries[i]
		return dirent{w.nid(child), tree.EntryType(w.slots[child].mode())}
	})
	return append(p[:begin], p[begin+int(from):]...)
}

func (w *writer) data() error {
	for i := range w.slots {
		s := &w.slots[i]
		n := s.outside() << blockBits
		regular := s.node.Type() == tree.TypeRegular
		if n == 0 || regular && (w.stored != nil || w.devices != nil) {
			continue
		}
		if regular {
			if err := w.file(s); err != nil {
				return err
			}
		} else {
			w.buf = w.structured(w.buf[:0], s, 0)
			if _, err := w.w.Write(w.buf[:min(n, s.size)]); err != nil {
				return err
			}
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
	for n > 0 {
		part := min(n, BlockSize)
		if _, err := w.w.Write(zeroBlock[:part]); err != nil {
			return err
		}
		n -= part
	}
	return nil
}
