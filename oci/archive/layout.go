package archive

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gomsb/gomsb/oci"
)

// Media types of the Docker registry formats, which layouts may hold as well.
const (
	dockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig    = "application/vnd.docker.container.image.v1+json"
	dockerLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"

	// nameAnnotation holds the full reference where a builder's archive keeps only the
	// tag in the standard annotation.
	nameAnnotation = "io.containerd.image.name"
)

func isIndex(mediaType string) bool {
	return mediaType == spec.MediaTypeImageIndex || mediaType == dockerIndex
}

func isManifest(mediaType string) bool {
	return mediaType == spec.MediaTypeImageManifest || mediaType == dockerManifest
}

func isLayer(mediaType string) bool {
	switch mediaType {
	case spec.MediaTypeImageLayer, spec.MediaTypeImageLayerGzip, spec.MediaTypeImageLayerZstd, dockerLayer, dockerLayerGzip:
		return true
	}
	return false
}

// document is an index or manifest, with the fields of both so that one which is both
// is noticed.
type document struct {
	SchemaVersion int
	MediaType     string
	Manifests     []spec.Descriptor
	Config        *spec.Descriptor
	Layers        []spec.Descriptor
}

// layout walks the indexes of an OCI image layout (image-spec, image-layout.md).
type layout struct {
	*index
	platform Platform
	indexes  int
	skipped  []string // platforms of the images that do not fit
	found    []Image
}

func readLayout(x *index, platform Platform) ([]Image, error) {
	data, err := x.metadata("oci-layout")
	if err != nil {
		return nil, err
	}
	var mark spec.ImageLayout
	if err := decode("oci-layout", data, &mark); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(mark.Version, "1.") {
		return nil, fmt.Errorf("%w: image layout version %.40q", oci.ErrArchive, mark.Version)
	}
	if data, err = x.metadata("index.json"); err != nil {
		return nil, err
	}
	var top document
	if err := decode("index.json", data, &top); err != nil {
		return nil, err
	}
	if err := top.checkIndex(); err != nil {
		return nil, err
	}
	l := &layout{index: x, platform: platform}
	for _, d := range top.Manifests {
		before := len(l.found)
		if err := l.walk(d, nameOf(d), 1); err != nil {
			return nil, err
		}
		// One entry stands for one image even if its index has several that fit.
		l.found = l.found[:min(len(l.found), before+1)]
		if len(l.found) > x.limits.Images {
			return nil, fmt.Errorf("%w: more than %d images", oci.ErrLimit, x.limits.Images)
		}
	}
	if len(l.found) == 0 {
		return nil, fmt.Errorf("%w: wanted %s, the archive has %v", oci.ErrPlatform, platform, l.skipped)
	}
	return distinct(l.found), nil
}

// nameOf returns the name an index entry gives its image.
func nameOf(d spec.Descriptor) []string {
	for _, key := range []string{nameAnnotation, spec.AnnotationRefName} {
		if name := d.Annotations[key]; name != "" {
			return []string{name}
		}
	}
	return nil
}

// distinct joins entries of one manifest and drops later entries of a name: an archive
// for several platforms may list each under the same name.
func distinct(all []Image) []Image {
	var kept []Image
	at, named := map[digest.Digest]int{}, map[string]bool{}
	for _, image := range all {
		var fresh []string
		for _, name := range image.Names {
			if !named[name] {
				named[name] = true
				fresh = append(fresh, name)
			}
		}
		if i, known := at[image.ManifestDigest]; known {
			kept[i].Names = append(kept[i].Names, fresh...)
			continue
		}
		if len(image.Names) > 0 && len(fresh) == 0 {
			continue
		}
		image.Names = fresh
		at[image.ManifestDigest] = len(kept)
		kept = append(kept, image)
	}
	return kept
}

// walk collects the images for the platform that d stands for, in order.
func (l *layout) walk(d spec.Descriptor, names []string, depth int) error {
	if !l.fits(d) {
		return nil
	}
	switch {
	case isIndex(d.MediaType):
		return l.nested(d, names, depth)
	case isManifest(d.MediaType):
		image, err := l.manifest(d)
		if errors.Is(err, oci.ErrPlatform) { // only its configuration says so
			l.skip(image.Parsed.Platform)
			return nil
		}
		if err != nil {
			return fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		image.Names = names
		l.found = append(l.found, image)
	}
	return nil // other kinds, such as signatures, may accompany images
}

func (l *layout) fits(d spec.Descriptor) bool {
	if d.Platform == nil {
		return true
	}
	have := Platform{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant}
	if have.OS == l.platform.OS && have.Architecture == l.platform.Architecture &&
		(l.platform.Variant == "" || have.Variant == "" || have.Variant == l.platform.Variant) {
		return true
	}
	l.skip(have)
	return false
}

// skip notes a platform for the error message, which need not be complete.
func (l *layout) skip(p Platform) {
	if len(l.skipped) < 20 {
		l.skipped = append(l.skipped, p.String())
	}
}

func (l *layout) nested(d spec.Descriptor, names []string, depth int) error {
	if l.indexes++; l.indexes > l.limits.Indexes || depth > l.limits.IndexDepth {
		return fmt.Errorf("%w: more than %d indexes or nested deeper than %d", oci.ErrLimit, l.limits.Indexes, l.limits.IndexDepth)
	}
	doc, _, err := l.document(d)
	if err != nil {
		return fmt.Errorf("index %s: %w", d.Digest, err)
	}
	if err := doc.checkIndex(); err != nil {
		return fmt.Errorf("index %s: %w", d.Digest, err)
	}
	before := len(l.found)
	for _, inner := range doc.Manifests {
		own := names
		if own == nil {
			own = nameOf(inner)
		}
		if err := l.walk(inner, own, depth+1); err != nil {
			return err
		}
		if len(l.found) > before {
			return nil // the first that fits
		}
	}
	return nil
}

func (d *document) checkIndex() error {
	switch {
	case d.SchemaVersion != 2:
		return fmt.Errorf("%w: schema version %d, not 2", oci.ErrManifest, d.SchemaVersion)
	case d.MediaType != "" && !isIndex(d.MediaType):
		return fmt.Errorf("%w: an index that says it is %.100q", oci.ErrManifest, d.MediaType)
	case d.Config != nil || len(d.Layers) > 0:
		return fmt.Errorf("%w: an index with the parts of a manifest", oci.ErrManifest)
	}
	return nil
}

func (d *document) checkManifest(mediaType string) error {
	switch {
	case d.SchemaVersion != 2:
		return fmt.Errorf("%w: schema version %d, not 2", oci.ErrManifest, d.SchemaVersion)
	case d.MediaType != "" && d.MediaType != mediaType:
		return fmt.Errorf("%w: %q says it is %.100q", oci.ErrManifest, mediaType, d.MediaType)
	case len(d.Manifests) > 0:
		return fmt.Errorf("%w: a manifest with the parts of an index", oci.ErrManifest)
	case d.Config == nil:
		return fmt.Errorf("%w: no configuration", oci.ErrManifest)
	case d.Config.MediaType != spec.MediaTypeImageConfig && d.Config.MediaType != dockerConfig:
		return fmt.Errorf("%w: configuration of type %.100q; it is no container image", oci.ErrMediaType, d.Config.MediaType)
	}
	return nil
}

// document reads an index or manifest blob.
func (l *layout) document(d spec.Descriptor) (doc document, raw []byte, err error) {
	if raw, err = l.verified(d); err != nil {
		return doc, nil, err
	}
	return doc, raw, decode("document", raw, &doc)
}

// verified reads a metadata blob and compares it with its descriptor.
func (x *index) verified(d spec.Descriptor) ([]byte, error) {
	name, err := blobName(d.Digest)
	if err != nil {
		return nil, err
	}
	data, err := x.metadata(name)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != d.Size {
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d", oci.ErrSizeMismatch, d.Digest, len(data), d.Size)
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return nil, fmt.Errorf("%w: content of %s is %s", oci.ErrDigestMismatch, d.Digest, got)
	}
	return data, nil
}

func blobName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%w: digest %.100q: %w", oci.ErrManifest, d, err)
	}
	return spec.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded(), nil
}

func (l *layout) manifest(d spec.Descriptor) (Image, error) {
	image := Image{MediaType: d.MediaType, ManifestDigest: d.Digest}
	doc, raw, err := l.document(d)
	if err != nil {
		return image, err
	}
	image.Manifest = raw
	if err := doc.checkManifest(d.MediaType); err != nil {
		return image, err
	}
	if err := l.checkLayers(len(doc.Layers)); err != nil {
		return image, err
	}
	image.ConfigDigest = doc.Config.Digest
	if image.Config, err = l.verified(*doc.Config); err != nil {
		return image, err
	}
	if image.Parsed, err = checkConfig(image.Config, len(doc.Layers), l.platform); err != nil {
		return image, err
	}
	for i, layer := range doc.Layers {
		found, err := l.layer(layer, image.Parsed.DiffIDs[i])
		if err != nil {
			return image, fmt.Errorf("layer %d: %w", i, err)
		}
		image.Layers = append(image.Layers, found)
	}
	return image, nil
}

func (l *layout) layer(d spec.Descriptor, diffID digest.Digest) (Layer, error) {
	if !isLayer(d.MediaType) {
		return Layer{}, fmt.Errorf("%w: layer of type %.100q", oci.ErrMediaType, d.MediaType)
	}
	name, err := blobName(d.Digest)
	if err != nil {
		return Layer{}, err
	}
	section, err := l.blob(name)
	if err != nil {
		return Layer{}, err
	}
	if section.Size() != d.Size {
		return Layer{}, fmt.Errorf("%w: %s has %d bytes, not %d", oci.ErrSizeMismatch, d.Digest, section.Size(), d.Size)
	}
	return Layer{Layer: oci.Layer{DiffID: diffID, BlobDigest: d.Digest, MediaType: d.MediaType, Size: d.Size}, blob: section}, nil
}
