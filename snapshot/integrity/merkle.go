package integrity

import (
	"context"
	"encoding/binary"
	"math/bits"
	"os"

	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/sparse"
	"lukechampine.com/blake3"
)

const (
	domain   = descriptor.MerkleBLAKE3 + "\x00"
	leafSize = descriptor.LeafSize
)

type hash = [32]byte

// tree hashes one file. A subtree without data has a hash that depends on its height
// only, so a hole costs nothing, and equals zeros that take space.
type tree struct {
	ctx  context.Context
	f    *os.File
	size int64
	next sparse.Extent // the first data that ends after all that was hashed
	zero []hash        // of empty subtrees, by height
	leaf []byte        // prefix and block
}

// merkle returns the root over a file's size bytes: leaves of 64 KiB, the last padded
// with zeros, padded with zero leaves to a power of two.
func merkle(ctx context.Context, f *os.File, size int64) (hash, error) {
	height := 0
	if leaves := uint64(size+leafSize-1) / leafSize; leaves > 1 {
		height = bits.Len64(leaves - 1)
	}
	t := &tree{ctx: ctx, f: f, size: size, zero: make([]hash, height+1)}
	prefix := domain + "leaf\x00"
	t.leaf = make([]byte, len(prefix)+leafSize)
	copy(t.leaf, prefix)
	t.zero[0] = blake3.Sum256(t.leaf)
	for h := 1; h <= height; h++ {
		t.zero[h] = parent(t.zero[h-1], t.zero[h-1])
	}
	var err error
	if t.next, err = sparse.Next(f, 0, size); err != nil {
		return hash{}, err
	}
	top, err := t.node(height, 0)
	if err != nil {
		return hash{}, err
	}
	b := append([]byte(domain), "root\x00"...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint32(b, leafSize)
	b = binary.LittleEndian.AppendUint32(b, uint32(height))
	return blake3.Sum256(append(b, top[:]...)), nil
}

func parent(left, right hash) hash {
	b := append(make([]byte, 0, len(domain)+7+64), domain+"parent\x00"...)
	return blake3.Sum256(append(append(b, left[:]...), right[:]...))
}

// node hashes the subtree of a height that starts at an offset. Calls are in the order
// of offsets.
func (t *tree) node(height int, offset int64) (hash, error) {
	end := offset + leafSize<<height
	for t.next.Length > 0 && t.next.End() <= offset {
		var err error
		if t.next, err = sparse.Next(t.f, offset, t.size); err != nil {
			return hash{}, err
		}
	}
	if t.next.Length == 0 || t.next.Offset >= end {
		return t.zero[height], nil
	}
	if height == 0 {
		return t.block(offset)
	}
	left, err := t.node(height-1, offset)
	if err != nil {
		return hash{}, err
	}
	right, err := t.node(height-1, offset+leafSize<<(height-1))
	if err != nil {
		return hash{}, err
	}
	return parent(left, right), nil
}

func (t *tree) block(offset int64) (hash, error) {
	if err := t.ctx.Err(); err != nil {
		return hash{}, err
	}
	block := t.leaf[len(t.leaf)-leafSize:]
	n := min(leafSize, t.size-offset)
	clear(block[n:])
	if read, err := t.f.ReadAt(block[:n], offset); int64(read) < n {
		return hash{}, short(t.f, err)
	}
	return blake3.Sum256(t.leaf), nil
}
