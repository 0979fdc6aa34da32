package archive

import (
	"context"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
)

// Image is an image in an archive. A docker archive has no manifest, so one is made from
// what it has. Layers are promises: the reader of a layer must verify them.
type Image struct {
	manifest.Image
	Names []string // as the archive writes them; may be empty
	blobs []*io.SectionReader
}

// Open returns the blob of a layer from its start, unverified.
func (i *Image) Open(layer int) *io.SectionReader {
	return io.NewSectionReader(i.blobs[layer], 0, i.blobs[layer].Size())
}

// Read finds the images for platform in an archive. An archive with manifest.json is
// read as docker save wrote it, even if it is an OCI layout too. Image and index
// documents are limited and verified; only their layers' presence and size is.
//
// Errors wrap oci.ErrArchive, ErrManifest, ErrMediaType, ErrPlatform, ErrLimit,
// ErrDigestMismatch or ErrSizeMismatch.
func Read(ctx context.Context, f *File, platform manifest.Platform, limits Limits) ([]Image, error) {
	x, err := newIndex(ctx, f, limits)
	if err != nil {
		return nil, err
	}
	switch {
	case x.has("manifest.json"):
		return readDocker(ctx, x, platform)
	case x.has("oci-layout"):
		return readLayout(ctx, x, platform)
	}
	return nil, fmt.Errorf("%w: neither manifest.json nor oci-layout in it; make it with docker save or as an OCI layout", oci.ErrArchive)
}
