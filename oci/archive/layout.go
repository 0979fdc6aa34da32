package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
)

// nameAnnotation holds the full reference where a builder's archive keeps only the tag in
// the standard annotation.
const nameAnnotation = "io.containerd.image.name"

// readLayout walks the indexes of an OCI image layout (image-spec, image-layout.md).
func readLayout(ctx context.Context, x *index, platform manifest.Platform) ([]Image, error) {
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
	top, err := manifest.Parse(data)
	if err == nil {
		err = top.CheckIndex()
	}
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	resolver := &manifest.Resolver{Platform: platform, Limits: x.limits.Documents,
		Fetch: func(_ context.Context, d spec.Descriptor) ([]byte, error) { return x.verified(d) }}
	var found []Image
	none := error(fmt.Errorf("%w: the archive lists no image", oci.ErrPlatform))
	for _, d := range top.Manifests {
		image, trail, err := resolver.Resolve(ctx, d)
		if errors.Is(err, oci.ErrPlatform) {
			none = err
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(found) >= x.limits.Images {
			return nil, fmt.Errorf("%w: more than %d images", oci.ErrLimit, x.limits.Images)
		}
		one := Image{Image: *image, Names: nameOf(trail)}
		if err := x.layers(&one); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", one.ManifestDigest, err)
		}
		found = append(found, one)
	}
	if len(found) == 0 {
		return nil, none
	}
	return distinct(found), nil
}

// nameOf returns the name that index entries on the way to an image give it.
func nameOf(trail []spec.Descriptor) []string {
	for _, d := range trail {
		for _, key := range []string{nameAnnotation, spec.AnnotationRefName} {
			if name := d.Annotations[key]; name != "" {
				return []string{name}
			}
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

// layers finds the blobs of an image.
func (x *index) layers(image *Image) error {
	for i, l := range image.Layers {
		name, err := blobName(l.BlobDigest)
		if err != nil {
			return err
		}
		section, err := x.blob(name)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		if section.Size() != l.Size {
			return fmt.Errorf("%w: layer %s has %d bytes, not %d", oci.ErrSizeMismatch, l.BlobDigest, section.Size(), l.Size)
		}
		image.blobs = append(image.blobs, section)
	}
	return nil
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
