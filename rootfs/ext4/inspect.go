package ext4

import "io"

// Info is what the superblock of a file system says. A guest may have written it: it is
// consistent in itself, but proves nothing about the rest.
type Info struct {
	Size      int64 // bytes of the image that it covers
	Free      int64 // bytes not in use; not up to date while NeedsRecovery
	BlockSize int   // bytes
	UUID      [16]byte
	Label     string // as stored; any bytes
	Features  Features
	// NeedsRecovery: it was in use when its machine ended. The next mount, or Grow,
	// completes what its journal holds.
	NeedsRecovery bool
	// NeedsCheck: Linux found errors, or ended without a journal. e2fsck mends it.
	NeedsCheck bool
}

// Clean reports whether there is nothing to recover or to check.
func (i *Info) Clean() bool { return !i.NeedsRecovery && !i.NeedsCheck }

// Features are the feature words of a superblock, bit by bit as Linux defines them.
type Features struct {
	Compat, Incompat, ROCompat uint32
}

// Inspect reads the superblock of the ext4, or ext2 or ext3, file system in r. Errors
// wrap ErrNotExt4 or ErrCorrupt, or are those of r.
func Inspect(r io.ReaderAt) (Info, error) {
	s, err := readSuper(r)
	if err != nil {
		return Info{}, err
	}
	g := newGeometry(s)
	info := Info{
		Size:          int64(s.blocks()) * int64(g.blockSize),
		Free:          int64(min(s.freeBlocks(), s.blocks())) * int64(g.blockSize),
		BlockSize:     int(g.blockSize),
		Label:         s.label(),
		Features:      Features{s.u32(sbCompat), s.u32(sbIncompat), s.u32(sbROCompat)},
		NeedsRecovery: s.incompat(incompatRecover),
		NeedsCheck:    s.u16(sbState)&(stateValid|stateError) != stateValid,
	}
	copy(info.UUID[:], s[sbUUID:])
	return info, nil
}
