package ext4

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Options describe a file system to create.
type Options struct {
	// Size is the length of the image in bytes: a multiple of BlockSize from MinSize to
	// MaxSize. A rest too short for another block group stays unused. Zero is
	// DefaultSize.
	Size int64
	// UUID identifies the file system and seeds its hashes and checksums. Zero is a
	// random one (version 4).
	UUID [16]byte
	// Label is the volume name: up to 16 bytes, no NUL.
	Label string
	// Tree is what the file system holds, nil nothing. Whiteouts become character
	// devices 0:0 and opaque directories get trusted.overlay.opaque, as overlayfs wants
	// them in an upper. Its times are also those of the last change and access.
	Tree *tree.Tree
	// Time is when the file system and its inodes say that they were made. Zero is 1970.
	Time time.Time
	// Sync makes Create return only when the image would outlive a power failure. An
	// upper needs none: its guest flushes it before it relies on anything that it wrote.
	Sync bool
}

// Validate checks everything but the tree. Errors wrap ErrOptions.
func (o *Options) Validate() error {
	switch {
	case o.Size != 0 && (o.Size < MinSize || o.Size > MaxSize):
		return fmt.Errorf("%w: size %d; it must lie between %d and %d bytes", ErrOptions, o.Size, MinSize, int64(MaxSize))
	case o.Size%BlockSize != 0:
		return fmt.Errorf("%w: size %d is no multiple of %d bytes", ErrOptions, o.Size, BlockSize)
	case len(o.Label) > labelSize:
		return fmt.Errorf("%w: label %q is longer than %d bytes", ErrOptions, o.Label, labelSize)
	case strings.Contains(o.Label, "\x00"):
		return fmt.Errorf("%w: label %q holds a NUL byte", ErrOptions, o.Label)
	case !o.Time.IsZero() && (o.Time.Unix() < 0 || o.Time.Unix() >= 1<<40):
		return fmt.Errorf("%w: time %s", ErrOptions, o.Time)
	}
	return nil
}

// complete returns o with its defaults.
func (o Options) complete() Options {
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	if o.UUID == [16]byte{} {
		_, _ = rand.Read(o.UUID[:]) // never fails
		o.UUID[6] = o.UUID[6]&0x0F | 0x40
		o.UUID[8] = o.UUID[8]&0x3F | 0x80
	}
	if o.Tree == nil {
		o.Tree = &tree.Tree{Root: tree.NewDir(0o755)}
	}
	return o
}

// made returns Time as inodes store it.
func (o *Options) made() tree.Time {
	if o.Time.IsZero() {
		return tree.Time{}
	}
	return tree.Time{Sec: o.Time.Unix(), Nsec: uint32(o.Time.Nanosecond())}
}

// Upper returns the tree of a sandbox's upper: directory work, and directory upper that
// holds patches, or nothing if that is nil. The guest sees the attributes of patches'
// root as those of "/".
func Upper(patches *tree.Tree) *tree.Tree {
	upper := tree.NewDir(0o755)
	if patches != nil {
		upper = patches.Root
	}
	t := &tree.Tree{Root: tree.NewDir(0o755)}
	t.Root.Set("upper", upper)
	t.Root.Set("work", tree.NewDir(0o755))
	return t
}
