package erofs

import (
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Device is an image that holds the content of files of a merged tree.
type Device struct {
	Content io.ReaderAt // the Content of those files; their Offset is the one in the image
	Blocks  uint32      // length of the image
}

// BuildMeta writes the fsmeta image of a merged tree to w: directories, links and
// attributes, but of regular files only where their blocks lie on the devices. On a disk
// that is the concatenation of this image and the devices in order, Linux 6.4 and later
// mounts it as one file system.
//
// id becomes the UUID of the file system, by which a caller can tell later which images
// it was made for.
//
// Layout: superblock, device table, inodes, directories and link targets, in the order
// of Build. Each device has a slot with its length and its place in the concatenation;
// a device may be listed more than once. Regular files that are not empty have chunk
// indexes of eight bytes; a chunk is the least power of two of blocks, up to 4 GiB, that
// covers the file.
//
// Errors wrap ErrTree if the tree cannot be represented or has content elsewhere, or are
// those of w.
func BuildMeta(w io.Writer, t *tree.Tree, devices []Device, id [16]byte) (Info, error) {
	if len(devices) == 0 || len(devices) > maxDevices {
		return Info{}, fmt.Errorf("%w: %d devices; the limit is %d", ErrTree, len(devices), maxDevices)
	}
	p := &plan{begin: blocks(uint64(firstDevice + len(devices)*deviceSlot)), devices: make(map[io.ReaderAt]uint16, len(devices))}
	var total uint64
	for i, d := range devices {
		total += uint64(d.Blocks)
		if _, known := p.devices[d.Content]; !known {
			p.devices[d.Content] = uint16(i + 1)
		}
	}
	if err := p.build(t); err != nil {
		return Info{}, err
	}
	if total += p.total(); total >= noBlock {
		return Info{}, fmt.Errorf("%w: %d blocks with all layers; the format holds %d", ErrTree, total, uint32(noBlock)-1)
	}
	return p.write(w, superblock{label: metaLabel, id: id, incompat: incompatChunks | incompatDevices, devices: devices})
}
