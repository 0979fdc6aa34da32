package ext4

import (
	"bytes"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// holeSize is the shortest run of zeros, in bytes and at multiples of itself, that
// becomes a hole. It bounds how many extents a file of a given size can have.
const holeSize = 64 << 10

var zeros [holeSize]byte

// file writes one inode of the tree: content, attributes and record.
func (f *formatter) file(p *plan, number int) error {
	s := &p.slots[number]
	node := s.node
	n := &inode{mode: node.Mode & (tree.TypeMask | tree.PermMask), uid: node.UID, gid: node.GID, links: s.links, mtime: node.MTime}
	var err error
	switch node.Type() {
	case tree.TypeDir:
		err = f.directory(n, p, s)
	case tree.TypeRegular:
		n.size = uint64(node.Size)
		err = f.regular(n, s)
	case tree.TypeSymlink:
		n.size = uint64(len(node.Target))
		if n.size < iblockSize { // a NUL byte follows
			copy(n.block[:], node.Target)
		} else {
			err = f.store(n, s.number, append([]byte(node.Target), zeros[:BlockSize-n.size]...))
		}
	case tree.TypeChar, tree.TypeBlock:
		encodeDevice(n.block[:], node.Major, node.Minor)
	}
	if err == nil {
		err = f.attributes(n, s)
	}
	if err == nil {
		err = f.writeInode(n, s.number)
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w", p.path(number), err)
	}
	return nil
}

func (f *formatter) attributes(n *inode, s *slot) error {
	all, err := storedXattrs(s.node, s.opaque)
	if err != nil || len(all) == 0 {
		return err
	}
	inline, block, err := encodeXattrs(all)
	if err != nil {
		return err
	}
	n.inline = inline
	if block == nil {
		return nil
	}
	if n.xattrs, _, err = f.alloc(1); err != nil {
		return err
	}
	n.blocks++
	sealXattrs(block, f.geo.seed, n.xattrs)
	return f.data.put(f.geo.offset(n.xattrs), block)
}

func (f *formatter) directory(n *inode, p *plan, s *slot) error {
	entries := make([]dirent, len(s.entries))
	for i, e := range s.entries {
		to := &p.slots[e.slot]
		entries[i] = dirent{e.name, to.number, tree.EntryType(to.node.Mode)}
	}
	d := directory{self: s.number, parent: s.parent, seed: inodeSeed(f.geo.seed, s.number, 0), hashSeed: &f.hashSeed}
	content, indexed, err := d.encode(entries)
	if err != nil {
		return err
	}
	if indexed {
		n.flags |= inodeIndexed
	}
	n.size = uint64(len(content))
	return f.store(n, s.number, content)
}

// store writes content of whole blocks without holes.
func (f *formatter) store(n *inode, number uint32, content []byte) error {
	var e extents
	if err := f.write(&e, 0, content); err != nil {
		return err
	}
	return extentTree(n, e, inodeSeed(f.geo.seed, number, 0), f.block)
}

// write stores content of whole blocks as those from logical on.
func (f *formatter) write(e *extents, logical uint32, content []byte) error {
	for len(content) > 0 {
		at, got, err := f.alloc(uint32(len(content) / BlockSize))
		if err != nil {
			return err
		}
		e.add(logical, at, got)
		if err := f.data.put(f.geo.offset(at), content[:got*BlockSize]); err != nil {
			return err
		}
		logical += got
		content = content[got*BlockSize:]
	}
	return nil
}

// regular copies the content of a file, leaving out what is zero.
func (f *formatter) regular(n *inode, s *slot) error {
	if f.copyBuf == nil {
		f.copyBuf = make([]byte, outputBuffer)
	}
	var e extents
	for done := int64(0); done < s.node.Size; {
		buf := f.copyBuf[:min(outputBuffer, s.node.Size-done)]
		if got, err := s.node.Content.ReadAt(buf, s.node.Offset+done); got < len(buf) {
			if err == nil || err == io.EOF {
				err = ErrContent
			}
			return fmt.Errorf("%w: %d of %d bytes", err, done+int64(got), s.node.Size)
		}
		padded := f.copyBuf[:alignUp(len(buf), BlockSize)]
		clear(padded[len(buf):])
		if err := f.sparse(&e, uint32(done/BlockSize), padded); err != nil {
			return err
		}
		done += int64(len(buf))
	}
	return extentTree(n, e, inodeSeed(f.geo.seed, s.number, 0), f.block)
}

// sparse writes those parts of content that are not zero.
func (f *formatter) sparse(e *extents, logical uint32, content []byte) error {
	for from := 0; from < len(content); {
		to := from
		for to < len(content) && !isHole(content[to:]) {
			to = min(to+holeSize, len(content))
		}
		if err := f.write(e, logical+uint32(from/BlockSize), content[from:to]); err != nil {
			return err
		}
		for from = to; from < len(content) && isHole(content[from:]); {
			from = min(from+holeSize, len(content))
		}
	}
	return nil
}

// isHole reports whether the next holeSize bytes, or as many as there are, are zero.
func isHole(p []byte) bool {
	p = p[:min(len(p), holeSize)]
	return bytes.Equal(p, zeros[:len(p)])
}
