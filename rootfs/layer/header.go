package layer

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"

	"github.com/gomsb/gomsb/rootfs/tree"
)

const (
	// paxXattr prefixes PAX records that carry an extended attribute.
	paxXattr = "SCHILY.xattr."
	// overlayXattr prefixes attributes by which overlayfs keeps its books. They mean
	// something only in the layer store that wrote them; the opaque mark is read, the
	// others would misguide the overlay in the guest.
	overlayXattr  = "trusted.overlay."
	overlayOpaque = "trusted.overlay.opaque"

	typeSocket = 0o140 // type byte some archivers write for a socket

	// The kernel keeps device numbers as 12 bits of major and 20 of minor.
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
	// maxID excludes the all-ones ID, which means "none" in Linux.
	maxID = math.MaxUint32 - 1
)

// inode makes an inode from a header; nil for entry types that layers do not hold.
func (l *reader) inode(h *tar.Header) (*tree.Inode, error) {
	kind, ok := kinds[h.Typeflag]
	if !ok {
		return nil, nil
	}
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return nil, fmt.Errorf("%w: owner %d:%d", ErrMalformed, h.Uid, h.Gid)
	}
	node := &tree.Inode{Mode: kind | uint32(h.Mode)&tree.PermMask, UID: uint32(h.Uid), GID: uint32(h.Gid)}
	if !h.ModTime.IsZero() {
		node.MTime = tree.Time{Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond())}
	}
	switch kind {
	case tree.TypeSymlink:
		node.Mode = kind | 0o777 // as Linux has it, whatever the archive says
		if err := l.target(node, h.Linkname); err != nil {
			return nil, err
		}
	case tree.TypeChar, tree.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return nil, fmt.Errorf("%w: device number %d:%d", ErrMalformed, h.Devmajor, h.Devminor)
		}
		node.Major, node.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	return node, l.xattrs(node, h.PAXRecords)
}

var kinds = map[byte]uint32{
	tar.TypeReg:       tree.TypeRegular,
	tar.TypeCont:      tree.TypeRegular,
	tar.TypeGNUSparse: tree.TypeRegular,
	tar.TypeDir:       tree.TypeDir,
	tar.TypeSymlink:   tree.TypeSymlink,
	tar.TypeChar:      tree.TypeChar,
	tar.TypeBlock:     tree.TypeBlock,
	tar.TypeFifo:      tree.TypeFIFO,
	typeSocket:        tree.TypeSocket,
}

func (l *reader) target(node *tree.Inode, target string) error {
	switch {
	case target == "":
		return fmt.Errorf("%w: symbolic link without a target", ErrMalformed)
	case len(target) > l.limits.TargetBytes:
		return fmt.Errorf("%w: a symbolic link target of %d bytes; the limit is %d", ErrLimit, len(target), l.limits.TargetBytes)
	case strings.Contains(target, "\x00"):
		return fmt.Errorf("%w: NUL byte in a symbolic link target", ErrMalformed)
	}
	node.Target = target
	return l.account(len(target))
}

func (l *reader) xattrs(node *tree.Inode, records map[string]string) error {
	total := 0
	for key, value := range records {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !storable(name) {
			continue
		}
		if len(node.Xattrs) >= l.limits.XattrCount {
			return fmt.Errorf("%w: more than %d xattrs", ErrLimit, l.limits.XattrCount)
		}
		if len(name) > tree.MaxName {
			return fmt.Errorf("%w: an xattr name of %d bytes; the limit is %d", ErrLimit, len(name), tree.MaxName)
		}
		if total += len(name) + len(value); total > l.limits.XattrBytes {
			return fmt.Errorf("%w: more than %d bytes of xattrs", ErrLimit, l.limits.XattrBytes)
		}
		node.SetXattr(name, []byte(value))
	}
	return l.account(total)
}

// storable reports whether a root file system can hold the attribute, and may.
func storable(name string) bool {
	if strings.HasPrefix(name, overlayXattr) && name != overlayOpaque || strings.HasPrefix(name, tree.ReservedXattr) {
		return false
	}
	_, _, ok := tree.SplitXattr(name)
	return ok
}

// opaque reports whether node carries overlayfs' own opaque mark, and removes it.
func (l *reader) opaque(node *tree.Inode) bool {
	for i, x := range node.Xattrs {
		if x.Name == overlayOpaque {
			node.Xattrs = append(node.Xattrs[:i:i], node.Xattrs[i+1:]...)
			return string(x.Value) == "y"
		}
	}
	return false
}
