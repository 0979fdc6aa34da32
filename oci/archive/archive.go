package archive

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
)

// Platform is what an image must run on; Variant is usually "".
type Platform struct {
	OS, Architecture, Variant string
}

// String returns "os/arch" or "os/arch/variant".
func (p Platform) String() string {
	if p.Variant == "" {
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// Image is an image in an archive. Manifest and Config hash to their digests; a docker
// archive has no manifest, so one is made from what it has. Layers are promises: the
// reader of a layer must verify them.
type Image struct {
	Names          []string // as the archive writes them; may be empty
	MediaType      string   // of the manifest
	Manifest       []byte
	ManifestDigest digest.Digest
	Config         []byte
	ConfigDigest   digest.Digest
	Parsed         Config
	Layers         []Layer // bottom first
}

// Layer is one layer of an Image.
type Layer struct {
	oci.Layer
	blob *io.SectionReader
}

// Open returns the layer's blob from its start, unverified.
func (l Layer) Open() *io.SectionReader { return io.NewSectionReader(l.blob, 0, l.blob.Size()) }

// Read finds the images for platform in an archive. An archive with manifest.json is
// read as docker save wrote it, even if it is an OCI layout too. Image and index
// documents are limited and verified; only their layers' presence and size is.
//
// Errors wrap oci.ErrArchive, ErrManifest, ErrMediaType, ErrPlatform, ErrLimit,
// ErrDigestMismatch or ErrSizeMismatch.
func Read(ctx context.Context, f *File, platform Platform, limits Limits) ([]Image, error) {
	x, err := newIndex(ctx, f, limits)
	if err != nil {
		return nil, err
	}
	switch {
	case x.has("manifest.json"):
		return readDocker(ctx, x, platform)
	case x.has("oci-layout"):
		return readLayout(x, platform)
	}
	return nil, fmt.Errorf("%w: neither manifest.json nor oci-layout in it; make it with docker save or as an OCI layout", oci.ErrArchive)
}
