package erofs

import (
	"fmt"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// StorableXattr reports whether EROFS can hold an attribute of that name at all; Build
// leaves out the others.
func StorableXattr(name string) bool {
	_, suffix, ok := tree.SplitXattr(name)
	return ok && len(suffix) <= maxXattrNameLen
}

// xattrSize returns the bytes that attributes take behind their inode.
func xattrSize(xattrs []tree.Xattr) (uint64, error) {
	var size uint64
	for _, x := range xattrs {
		_, suffix, ok := tree.SplitXattr(x.Name)
		if !ok {
			continue
		}
		if len(suffix) > maxXattrNameLen || len(x.Value) > maxXattrValueLen {
			return 0, fmt.Errorf("%w: xattr %.64q has a name of %d and a value of %d bytes; limits are %d and %d",
				ErrTree, x.Name, len(suffix), len(x.Value), maxXattrNameLen, maxXattrValueLen)
		}
		size += align(uint64(xattrEntrySize+len(suffix)+len(x.Value)), 4)
	}
	if size == 0 {
		return 0, nil
	}
	if size/4+1 > maxInlineXattrs {
		return 0, fmt.Errorf("%w: %d bytes of xattrs on one file; the limit is %d", ErrTree, size, (maxInlineXattrs-1)*4)
	}
	return xattrHeaderSize + size, nil
}

// xattrUnits is the i_xattr_icount that stands for size bytes.
func xattrUnits(size uint64) uint16 {
	if size == 0 {
		return 0
	}
	return uint16((size-xattrHeaderSize)/4 + 1)
}

func appendXattrs(p []byte, xattrs []tree.Xattr) []byte {
	start := len(p)
	p = append(p, make([]byte, xattrHeaderSize)...)
	for _, x := range xattrs {
		index, suffix, ok := tree.SplitXattr(x.Name)
		if !ok {
			continue
		}
		p = append(p, uint8(len(suffix)), index)
		p = le.AppendUint16(p, uint16(len(x.Value)))
		p = append(p, suffix...)
		p = append(p, x.Value...)
		for (len(p)-start)%4 != 0 {
			p = append(p, 0)
		}
	}
	return p
}
