package ext4

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gomsb/gomsb/rootfs/tree"
)

const (
	xattrMagic   = 0xEA020000
	xattrEntry   = 16 // bytes of an entry before its name
	xattrHeader  = 32 // bytes of the header of a block
	xattrEnd     = 4  // zero bytes behind the last entry
	inlineXattrs = inodeSize - inodeBase - extraSize
	inlineHeader = 4

	opaqueXattr = "trusted.overlay.opaque"
)

// StorableXattr reports whether ext4 can hold an attribute of that name at all; Create
// leaves out the others.
func StorableXattr(name string) bool {
	_, suffix, ok := tree.SplitXattr(name)
	return ok && len(suffix) <= tree.MaxName
}

// xattr is an attribute as stored.
type xattr struct {
	index uint8
	name  string // without the prefix
	value []byte
}

func (x *xattr) size() int { return alignUp(xattrEntry+len(x.name), 4) + alignUp(len(x.value), 4) }

// storedXattrs returns the attributes of n in the order that Linux wants in a block.
// opaque adds the mark by which overlayfs hides lower directories.
func storedXattrs(n *tree.Inode, opaque bool) ([]xattr, error) {
	var all []xattr
	for _, x := range n.Xattrs {
		index, suffix, ok := tree.SplitXattr(x.Name)
		if !ok || opaque && x.Name == opaqueXattr {
			continue
		}
		if len(suffix) > tree.MaxName || len(x.Value) > BlockSize {
			return nil, fmt.Errorf("%w: xattr %.64q has a name of %d and a value of %d bytes; limits are %d and %d",
				ErrTree, x.Name, len(suffix), len(x.Value), tree.MaxName, BlockSize)
		}
		value := x.Value
		if suffix == "" {
			var err error
			if value, err = encodeACL(value); err != nil {
				return nil, fmt.Errorf("%w: xattr %s: %w", ErrTree, x.Name, err)
			}
		}
		all = append(all, xattr{index, suffix, value})
	}
	if opaque {
		index, suffix, _ := tree.SplitXattr(opaqueXattr)
		all = append(all, xattr{index, suffix, []byte("y")})
	}
	slices.SortFunc(all, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	return all, nil
}

// encodeXattrs packs attributes: into the inode what fits there, the rest into a block,
// nil if none is needed.
func encodeXattrs(all []xattr) (inline, block []byte, err error) {
	var in, out []xattr
	room, blockRoom := inlineXattrs-inlineHeader-xattrEnd, BlockSize-xattrHeader-xattrEnd
	for _, x := range all {
		if size := x.size(); size <= room {
			room -= size
			in = append(in, x)
		} else {
			blockRoom -= size
			out = append(out, x)
		}
	}
	if blockRoom < 0 {
		return nil, nil, fmt.Errorf("%w: its xattrs exceed the %d bytes of a block by %d", ErrTree, BlockSize, -blockRoom)
	}
	if len(in) > 0 {
		inline = make([]byte, inlineXattrs)
		le.PutUint32(inline, xattrMagic)
		putXattrs(inline[inlineHeader:], 0, in)
	}
	if len(out) > 0 {
		block = make([]byte, BlockSize)
		le.PutUint32(block[0:], xattrMagic)
		le.PutUint32(block[4:], 1) // references
		le.PutUint32(block[8:], 1) // blocks
		le.PutUint32(block[12:], putXattrs(block, xattrHeader, out))
	}
	return inline, block, nil
}

// putXattrs writes entries from at on and values from the end of p backwards, and
// returns the hash of all. Hashes are stored in blocks only, as in Linux.
func putXattrs(p []byte, at int, all []xattr) (hash uint32) {
	inBlock, end := at > 0, len(p)
	for _, x := range all {
		entry := p[at:]
		entry[0], entry[1] = uint8(len(x.name)), x.index
		le.PutUint32(entry[8:], uint32(len(x.value)))
		if len(x.value) > 0 {
			end -= alignUp(len(x.value), 4)
			copy(p[end:], x.value)
			le.PutUint16(entry[2:], uint16(end))
		}
		if inBlock {
			h := xattrHash(&x)
			le.PutUint32(entry[12:], h)
			hash = hash<<16 ^ hash>>16 ^ h
		}
		copy(entry[xattrEntry:], x.name)
		at += alignUp(xattrEntry+len(x.name), 4)
	}
	return hash
}

func xattrHash(x *xattr) (hash uint32) {
	for i := range len(x.name) {
		hash = hash<<5 ^ hash>>27 ^ uint32(x.name[i])
	}
	for value := x.value; len(value) > 0; value = value[min(4, len(value)):] {
		var word [4]byte
		copy(word[:], value)
		hash = hash<<16 ^ hash>>16 ^ le.Uint32(word[:])
	}
	return hash
}

// sealXattrs brings the checksum of the xattr block at block number at up to date.
func sealXattrs(block []byte, seed uint32, at uint64) {
	var number [8]byte
	le.PutUint64(number[:], at)
	le.PutUint32(block[16:], 0)
	le.PutUint32(block[16:], checksum(checksum(seed, number[:]), block))
}
