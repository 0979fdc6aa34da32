package archive

import (
	"github.com/gomsb/gomsb/oci/blob"
	"github.com/gomsb/gomsb/oci/manifest"
)

// Limits bounds what an archive may contain. Start from DefaultLimits.
type Limits struct {
	Entries       int   // members of the archive
	NameBytes     int   // of all member names together
	MetadataBytes int64 // one manifest, index or configuration
	TotalMetadata int64 // all of them together
	BlobBytes     int64 // one layer blob
	Images        int   // in one archive
	Documents     manifest.Limits
	Outer         blob.Limits // a stream, compressed as a whole or not
}

// DefaultLimits returns what msb load accepts.
func DefaultLimits() Limits {
	return Limits{
		Entries:       1_000_000,
		NameBytes:     128 << 20,
		MetadataBytes: 16 << 20,
		TotalMetadata: 128 << 20,
		BlobBytes:     10 << 30,
		Images:        1024,
		Documents:     manifest.DefaultLimits(),
		Outer:         blob.Limits{Bytes: 256 << 30, Ratio: 1000, RatioFloor: 4 << 30},
	}
}
