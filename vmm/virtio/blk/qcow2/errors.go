package qcow2

import (
	"errors"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

// All of these wrap blk.ErrImage.
var (
	// ErrFormat reports a file whose header is not that of a qcow2 image.
	ErrFormat = fmt.Errorf("%w: not a qcow2 image", blk.ErrImage)
	// ErrFeature reports an image that uses what this package does not support.
	ErrFeature = fmt.Errorf("%w: qcow2 feature is not supported", blk.ErrImage)
	// ErrBackingFile reports an image that is a layer over another file.
	ErrBackingFile = fmt.Errorf("%w: backing file: merge it with qemu-img convert", ErrFeature)
	// ErrEncrypted reports an encrypted image.
	ErrEncrypted = fmt.Errorf("%w: encryption: convert the image with qemu-img convert", ErrFeature)
	// ErrDataFile reports an image whose data is in another file.
	ErrDataFile = fmt.Errorf("%w: external data file: merge it with qemu-img convert", ErrFeature)
	// ErrDirty reports an image that was not closed, whose reference counts may be wrong.
	ErrDirty = fmt.Errorf("%w: qcow2 image was not closed: repair it with qemu-img check -r all, or make it read-only", blk.ErrImage)
	// ErrCorrupt reports tables that contradict each other or point nowhere.
	ErrCorrupt = fmt.Errorf("%w: corrupt qcow2 image: see qemu-img check", blk.ErrImage)
)

// errFull reports an image that has reached a limit of the format.
var errFull = errors.New("qcow2 image cannot grow any more")
