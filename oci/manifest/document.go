package manifest

import (
	"encoding/json"
	"fmt"

	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gomsb/gomsb/oci"
)

// Media types of the Docker registry formats, beside those of the image-spec.
const (
	DockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig    = "application/vnd.docker.container.image.v1+json"
	dockerLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// IsIndex reports whether a media type is that of an index.
func IsIndex(mediaType string) bool {
	return mediaType == spec.MediaTypeImageIndex || mediaType == DockerIndex
}

// IsManifest reports whether a media type is that of a manifest.
func IsManifest(mediaType string) bool {
	return mediaType == spec.MediaTypeImageManifest || mediaType == DockerManifest
}

func isLayer(mediaType string) bool {
	switch mediaType {
	case spec.MediaTypeImageLayer, spec.MediaTypeImageLayerGzip, spec.MediaTypeImageLayerZstd, dockerLayer, dockerLayerGzip, dockerLayerZstd:
		return true
	}
	return false
}

// Document is an index or manifest, with the fields of both so that one which is both
// is noticed.
type Document struct {
	SchemaVersion int
	MediaType     string
	Manifests     []spec.Descriptor
	Config        *spec.Descriptor
	Layers        []spec.Descriptor
}

// Parse reads an index or manifest. Errors wrap oci.ErrManifest.
func Parse(data []byte) (Document, error) {
	var d Document
	return d, decode("document", data, &d)
}

// Kind is the media type of the document: what it says itself, or what its shape is.
func (d *Document) Kind() string {
	switch {
	case d.MediaType != "":
		return d.MediaType
	case d.Manifests != nil:
		return spec.MediaTypeImageIndex
	}
	return spec.MediaTypeImageManifest
}

// CheckIndex reports whether the document is a well-formed index.
func (d *Document) CheckIndex() error {
	switch {
	case d.SchemaVersion != 2:
		return fmt.Errorf("%w: schema version %d, not 2", oci.ErrManifest, d.SchemaVersion)
	case d.MediaType != "" && !IsIndex(d.MediaType):
		return fmt.Errorf("%w: an index that says it is %.100q", oci.ErrManifest, d.MediaType)
	case d.Config != nil || len(d.Layers) > 0:
		return fmt.Errorf("%w: an index with the parts of a manifest", oci.ErrManifest)
	}
	return nil
}

// checkManifest reports whether the document is a well-formed manifest of the media type
// it was found under.
func (d *Document) checkManifest(mediaType string) error {
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

func decode(name string, data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%w: %s: %w", oci.ErrManifest, name, err)
	}
	return nil
}
