package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gomsb/gomsb/oci"
)

// Image is an image with its documents. Manifest and Config hash to their digests.
type Image struct {
	MediaType      string // of the manifest
	Manifest       []byte
	ManifestDigest digest.Digest
	Config         []byte
	ConfigDigest   digest.Digest
	Parsed         Config
	Layers         []oci.Layer // bottom first; digests and sizes are promises
}

// Limits bounds what documents may demand.
type Limits struct {
	Layers     int // of one image
	IndexDepth int // nesting of indexes
	Indexes    int // read by one Resolver
}

// DefaultLimits allows what honest images have.
func DefaultLimits() Limits { return Limits{Layers: 500, IndexDepth: 32, Indexes: 1024} }

// Resolver finds the image for a platform behind a descriptor.
type Resolver struct {
	// Fetch returns the document that a descriptor names, with size and digest verified.
	Fetch    func(ctx context.Context, d spec.Descriptor) ([]byte, error)
	Platform Platform
	Limits   Limits

	indexes int
	skipped []string
}

// errNone reports that nothing behind a descriptor fits the platform.
var errNone = fmt.Errorf("%w: nothing fits", oci.ErrPlatform)

// Resolve returns the first image behind d that fits the platform, and the descriptors on
// the way to it, d first. Entries of an index that fit the variant too come before the
// others, those without a platform last; those of other kinds, such as attestations, are
// skipped. If nothing fits the error is oci.ErrPlatform.
func (r *Resolver) Resolve(ctx context.Context, d spec.Descriptor) (*Image, []spec.Descriptor, error) {
	image, trail, err := r.walk(ctx, d, nil)
	if errors.Is(err, errNone) {
		err = fmt.Errorf("%w: wanted %s, found %v", oci.ErrPlatform, r.Platform, r.skipped)
	}
	return image, trail, err
}

func (r *Resolver) walk(ctx context.Context, d spec.Descriptor, trail []spec.Descriptor) (*Image, []spec.Descriptor, error) {
	trail = append(trail, d)
	switch {
	case !r.fits(d):
		return nil, nil, errNone
	case IsIndex(d.MediaType):
		return r.index(ctx, d, trail)
	case IsManifest(d.MediaType):
		image, err := r.manifest(ctx, d)
		if err != nil && !errors.Is(err, errNone) {
			err = fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		return image, trail, err
	}
	return nil, nil, errNone
}

func (r *Resolver) index(ctx context.Context, d spec.Descriptor, trail []spec.Descriptor) (*Image, []spec.Descriptor, error) {
	if r.indexes++; r.indexes > r.Limits.Indexes || len(trail) > r.Limits.IndexDepth {
		return nil, nil, fmt.Errorf("%w: more than %d indexes or nested deeper than %d", oci.ErrLimit, r.Limits.Indexes, r.Limits.IndexDepth)
	}
	doc, _, err := r.document(ctx, d)
	if err == nil {
		err = doc.CheckIndex()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("index %s: %w", d.Digest, err)
	}
	slices.SortStableFunc(doc.Manifests, func(a, b spec.Descriptor) int { return r.rank(a) - r.rank(b) })
	for _, inner := range doc.Manifests {
		image, way, err := r.walk(ctx, inner, slices.Clip(trail))
		if !errors.Is(err, errNone) {
			return image, way, err
		}
	}
	return nil, nil, errNone
}

// rank orders the entries of an index.
func (r *Resolver) rank(d spec.Descriptor) int {
	switch {
	case d.Platform == nil:
		return 2
	case d.Platform.Variant == r.Platform.Variant || r.Platform.Variant == "":
		return 0
	}
	return 1
}

// fits reports whether d can be for the platform, and notes it otherwise. The list of
// what was skipped is for people and need not be complete.
func (r *Resolver) fits(d spec.Descriptor) bool {
	if d.Platform == nil || d.Platform.OS == r.Platform.OS && d.Platform.Architecture == r.Platform.Architecture {
		return true
	}
	r.skip(Platform{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant})
	return false
}

func (r *Resolver) skip(p Platform) {
	if len(r.skipped) < 20 && !slices.Contains(r.skipped, p.String()) {
		r.skipped = append(r.skipped, p.String())
	}
}

func (r *Resolver) document(ctx context.Context, d spec.Descriptor) (Document, []byte, error) {
	if err := d.Digest.Validate(); err != nil {
		return Document{}, nil, fmt.Errorf("%w: digest %.100q: %w", oci.ErrManifest, d.Digest, err)
	}
	raw, err := r.Fetch(ctx, d)
	if err != nil {
		return Document{}, nil, err
	}
	doc, err := Parse(raw)
	return doc, raw, err
}

func (r *Resolver) manifest(ctx context.Context, d spec.Descriptor) (*Image, error) {
	doc, raw, err := r.document(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := doc.checkManifest(d.MediaType); err != nil {
		return nil, err
	}
	if len(doc.Layers) > r.Limits.Layers {
		return nil, fmt.Errorf("%w: %d layers; the limit is %d", oci.ErrLimit, len(doc.Layers), r.Limits.Layers)
	}
	if err := doc.Config.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%w: digest %.100q: %w", oci.ErrManifest, doc.Config.Digest, err)
	}
	image := &Image{MediaType: d.MediaType, Manifest: raw, ManifestDigest: d.Digest, ConfigDigest: doc.Config.Digest}
	if image.Config, err = r.Fetch(ctx, *doc.Config); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if image.Parsed, err = CheckConfig(image.Config, len(doc.Layers), r.Platform); errors.Is(err, oci.ErrPlatform) {
		r.skip(image.Parsed.Platform)
		return nil, errNone
	} else if err != nil {
		return nil, err
	}
	for i, l := range doc.Layers {
		if !isLayer(l.MediaType) {
			return nil, fmt.Errorf("%w: layer %d of type %.100q", oci.ErrMediaType, i, l.MediaType)
		}
		if err := l.Digest.Validate(); err != nil || l.Size < 0 {
			return nil, fmt.Errorf("%w: layer %d with digest %.100q and %d bytes", oci.ErrManifest, i, l.Digest, l.Size)
		}
		image.Layers = append(image.Layers, oci.Layer{DiffID: image.Parsed.DiffIDs[i], BlobDigest: l.Digest, MediaType: l.MediaType, Size: l.Size})
	}
	return image, nil
}
