package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/blob"
	"github.com/gomsb/gomsb/oci/manifest"
)

// noName is what docker writes for an image without a tag.
const noName = "<none>:<none>"

type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func readDocker(ctx context.Context, x *index, platform manifest.Platform) ([]Image, error) {
	data, err := x.metadata("manifest.json")
	if err != nil {
		return nil, err
	}
	var docs []dockerImage
	if err := decode("manifest.json", data, &docs); err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("%w: manifest.json lists no image", oci.ErrArchive)
	}
	if len(docs) > x.limits.Images {
		return nil, fmt.Errorf("%w: %d images; the limit is %d", oci.ErrLimit, len(docs), x.limits.Images)
	}
	images := make([]Image, 0, len(docs))
	for i, doc := range docs {
		image, err := x.docker(ctx, doc, platform)
		if err != nil {
			return nil, fmt.Errorf("image %d of the archive: %w", i+1, err)
		}
		images = append(images, image)
	}
	return images, nil
}

func (x *index) docker(ctx context.Context, doc dockerImage, platform manifest.Platform) (Image, error) {
	var image Image
	if err := x.checkLayers(len(doc.Layers)); err != nil {
		return image, err
	}
	for _, tag := range doc.RepoTags {
		if tag != noName {
			image.Names = append(image.Names, tag)
		}
	}
	var err error
	if image.Config, err = x.metadata(doc.Config); err != nil {
		return image, err
	}
	image.ConfigDigest = digest.FromBytes(image.Config)
	if named, ok := digestOfName(doc.Config); ok && named != image.ConfigDigest {
		return image, fmt.Errorf("%w: configuration %q is %s", oci.ErrDigestMismatch, doc.Config, image.ConfigDigest)
	}
	if image.Parsed, err = manifest.CheckConfig(image.Config, len(doc.Layers), platform); err != nil {
		return image, err
	}
	for i, name := range doc.Layers {
		layer, section, err := x.dockerLayer(ctx, name, image.Parsed.DiffIDs[i])
		if err != nil {
			return image, fmt.Errorf("layer %d: %w", i, err)
		}
		image.Layers, image.blobs = append(image.Layers, layer), append(image.blobs, section)
	}
	return image, image.synthesize()
}

func (x *index) dockerLayer(ctx context.Context, name string, diffID digest.Digest) (oci.Layer, *io.SectionReader, error) {
	section, err := x.blob(name)
	if err != nil {
		return oci.Layer{}, nil, err
	}
	layer := oci.Layer{DiffID: diffID, Size: section.Size()}
	head := make([]byte, blob.MagicSize)
	n, err := section.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return oci.Layer{}, nil, err
	}
	compression := blob.Detect(head[:n])
	switch compression {
	case blob.Gzip:
		layer.MediaType = spec.MediaTypeImageLayerGzip
	case blob.Zstd:
		layer.MediaType = spec.MediaTypeImageLayerZstd
	default:
		layer.MediaType = spec.MediaTypeImageLayer
	}
	named, ok := digestOfName(name)
	switch {
	case ok && strings.HasPrefix(path.Clean(name), spec.ImageBlobsDir+"/"):
		layer.BlobDigest = named
	case compression == blob.None:
		layer.BlobDigest = diffID
	default:
		if layer.BlobDigest, err = digest.SHA256.FromReader(ctxReader{ctx, section}); err != nil {
			return oci.Layer{}, nil, err
		}
	}
	return layer, section, nil
}

// synthesize gives an image without a manifest the one that follows from its parts, so
// that equal images have equal manifest digests: byte for byte the one that microsandbox
// 0.6.18 makes, compact with sorted keys.
func (i *Image) synthesize() error {
	descriptor := func(mediaType string, d digest.Digest, size int64) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": d, "size": size}
	}
	layers := []any{}
	for _, l := range i.Layers {
		layers = append(layers, descriptor(l.MediaType, l.BlobDigest, l.Size))
	}
	i.MediaType = spec.MediaTypeImageManifest
	data, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": i.MediaType, "layers": layers,
		"config": descriptor(spec.MediaTypeImageConfig, i.ConfigDigest, int64(len(i.Config))),
	})
	if err != nil {
		return err
	}
	i.Manifest, i.ManifestDigest = data, digest.FromBytes(data)
	return nil
}

// digestOfName returns the digest that a member name states: "blobs/sha256/<hex>" or
// "<hex>.json".
func digestOfName(name string) (digest.Digest, bool) {
	name = path.Clean(name)
	if rest, ok := strings.CutPrefix(name, spec.ImageBlobsDir+"/"); ok {
		algorithm, encoded, _ := strings.Cut(rest, "/")
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
		return d, d.Validate() == nil
	}
	if encoded, ok := strings.CutSuffix(name, ".json"); ok {
		d := digest.NewDigestFromEncoded(digest.SHA256, encoded)
		return d, d.Validate() == nil
	}
	return "", false
}

func (x *index) checkLayers(n int) error {
	if n > x.limits.Documents.Layers {
		return fmt.Errorf("%w: %d layers; the limit is %d", oci.ErrLimit, n, x.limits.Documents.Layers)
	}
	return nil
}

// blob returns a layer blob.
func (x *index) blob(name string) (*io.SectionReader, error) {
	section, err := x.open(name)
	if err != nil {
		return nil, err
	}
	if section.Size() > x.limits.BlobBytes {
		return nil, fmt.Errorf("%w: %q has %d bytes; the limit for a layer is %d", oci.ErrLimit, name, section.Size(), x.limits.BlobBytes)
	}
	return section, nil
}
