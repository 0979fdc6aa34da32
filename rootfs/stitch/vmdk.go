package stitch

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

const (
	sectorSize = 512
	// maxExtent is the longest extent of the twoGbMaxExtentFlat format in sectors.
	maxExtent = 2 << 30 / sectorSize

	heads           = 16
	sectorsPerTrack = 63

	// maxDisk bounds the text: 16384 lines. No file system this disk can hold is larger
	// than 16 TiB (2^32 blocks of 4 KiB).
	maxDisk = 32 << 40
)

// ErrExtent reports an extent that a descriptor cannot express.
var ErrExtent = errors.New("extent not expressible in a VMDK descriptor")

// Extent is a file that takes its place in the disk with all its bytes.
type Extent struct {
	Path string // absolute, free of symbolic links, quotes and control characters
	Size int64  // bytes, a positive multiple of 512
}

// Descriptor returns the text of a VMDK descriptor (createType twoGbMaxExtentFlat)
// whose disk is the concatenation of the extents; those over 2 GiB take several
// lines. The result depends on the arguments only. It holds absolute paths and must
// be made anew when the files move.
func Descriptor(extents []Extent) ([]byte, error) {
	if len(extents) == 0 {
		return nil, fmt.Errorf("%w: no extents", ErrExtent)
	}
	var b strings.Builder
	b.WriteString("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n" +
		"createType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n")
	var total int64
	for _, e := range extents {
		if err := e.check(); err != nil {
			return nil, err
		}
		if e.Size > maxDisk-total*sectorSize {
			return nil, fmt.Errorf("%w: a disk of more than %d bytes", ErrExtent, int64(maxDisk))
		}
		sectors := e.Size / sectorSize
		total += sectors
		for done := int64(0); done < sectors; done += maxExtent {
			fmt.Fprintf(&b, "RW %d FLAT \"%s\" %d\n", min(maxExtent, sectors-done), e.Path, done)
		}
	}
	cylinders := (total + heads*sectorsPerTrack - 1) / (heads * sectorsPerTrack)
	fmt.Fprintf(&b, "\n# The Disk Data Base\n#DDB\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"%d\"\n"+
		"ddb.geometry.heads = \"%d\"\nddb.geometry.sectors = \"%d\"\nddb.adapterType = \"ide\"\n", cylinders, heads, sectorsPerTrack)
	return []byte(b.String()), nil
}

func (e Extent) check() error {
	switch {
	case !filepath.IsAbs(e.Path):
		return fmt.Errorf("%w: %q is not absolute", ErrExtent, e.Path)
	case strings.ContainsFunc(e.Path, func(r rune) bool { return r < ' ' || r == '"' || r == 0x7f }):
		return fmt.Errorf("%w: %q holds a quote or control character; move the cache to a plainer path", ErrExtent, e.Path)
	case e.Size <= 0 || e.Size%sectorSize != 0:
		return fmt.Errorf("%w: %q has %d bytes, not a positive multiple of %d", ErrExtent, e.Path, e.Size, sectorSize)
	}
	return nil
}
