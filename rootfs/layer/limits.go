package layer

import (
	"errors"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Limits bounds what one layer may contain. The zero value allows nothing; start from
// DefaultLimits.
type Limits struct {
	Entries       int   // archive members, and also files created, implicit parents included
	FileBytes     int64 // content of one file, holes included
	LayerBytes    int64 // content of all files, holes included
	PathBytes     int   // one path as written in the archive
	Depth         int   // components of a path
	TargetBytes   int   // target of a symbolic link
	XattrCount    int   // xattrs of one file
	XattrBytes    int   // names and values of one file's xattrs
	MetadataBytes int   // names, link targets and xattrs of the layer, which stay in memory
}

// DefaultLimits returns what msb load accepts.
func DefaultLimits() Limits {
	return Limits{
		Entries:       1_000_000,
		FileBytes:     5 << 30,
		LayerBytes:    10 << 30,
		PathBytes:     4096,
		Depth:         128,
		TargetBytes:   4095, // Linux cuts off what is longer
		XattrCount:    256,
		XattrBytes:    64 << 10,
		MetadataBytes: 128 << 20,
	}
}

var (
	// ErrLimit reports a layer beyond one of the Limits; the text names it.
	ErrLimit = errors.New("layer exceeds a limit")
	// ErrMalformed reports a layer that breaks the tar format or the OCI layer rules.
	ErrMalformed = errors.New("malformed layer")
	// ErrLink reports a hard link whose target is a directory or outside.
	ErrLink = tree.ErrLink
	// ErrSink reports that the host could not keep the layer's content; it wraps the
	// cause, such as a full disk.
	ErrSink = errors.New("layer content could not be stored")
)
