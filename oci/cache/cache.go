package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/blob"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/rootfs/layer"
)

// Cache is a directory of images. Processes and goroutines may share it: writers
// exclude each other by locks, readers see complete files only.
type Cache struct {
	dir string
	// Platform is what images must run on: linux on this machine's architecture.
	Platform manifest.Platform
	// Limits stop hostile images.
	Limits Limits
}

// Limits bounds archives, layers, and images as a whole.
type Limits struct {
	Archive    archive.Limits
	Blob       blob.Limits
	Layer      layer.Limits
	ImageFiles int   // files of all layers together, replaced ones included
	ImageBytes int64 // the images of all layers together
}

// DefaultLimits returns what Open sets.
func DefaultLimits() Limits {
	return Limits{
		Archive: archive.DefaultLimits(), Blob: blob.DefaultLimits(), Layer: layer.DefaultLimits(),
		ImageFiles: 2_000_000, ImageBytes: 64 << 30,
	}
}

// Open makes sure that dir has the folders of a cache, readable by this user only, and
// returns it.
func Open(dir string) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{manifestsDir, layersDir, fsmetaDir, vmdkDir, tmpDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	// The VMDK descriptors hold paths, which must not change with a symbolic link.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	return &Cache{
		dir:      dir,
		Platform: manifest.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Limits:   DefaultLimits(),
	}, nil
}

// Image returns the image a reference stands for, ready to boot: its files exist, and
// the VMDK descriptor names them where they are now. A fsmeta image that is missing or
// does not fit the layers is made anew. An image that is not there, or a layer of which
// is, is oci.ErrNotFound.
func (c *Cache) Image(ctx context.Context, reference string) (*oci.Image, error) {
	r, err := ref.Parse(reference)
	if err != nil {
		return nil, err
	}
	m, updated, err := readMetadata(c.metadataPath(r))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Familiar(), err)
	}
	m.Reference = r.String()
	image, err := c.image(m, updated)
	if err != nil {
		return nil, err
	}
	image.Name = r.Given()
	d, err := c.openDisk(m.ManifestDigest, m.layerNames())
	if err == nil {
		image.DiskSize, err = d.compose(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Familiar(), err)
	}
	return image, nil
}

// Disk returns the VMDK descriptor of an image's root disk, and the size of that disk in
// bytes, whether or not a reference stands for the image. An image whose files are not
// all there is oci.ErrNotFound.
func (c *Cache) Disk(ctx context.Context, manifest digest.Digest) (vmdk string, size int64, err error) {
	if err := manifest.Validate(); err != nil {
		return "", 0, fmt.Errorf("%w: %w", oci.ErrManifest, err)
	}
	names, err := c.diskLayers(manifest)
	if err != nil {
		return "", 0, err
	}
	d, err := c.openDisk(manifest, names)
	if err != nil {
		return "", 0, fmt.Errorf("%w; get the image again", err)
	}
	size, err = d.compose(ctx)
	return c.vmdkPath(manifest), size, err
}

// List returns the images of all references, newest first. Images that lack files are
// included with DiskSize 0.
func (c *Cache) List(ctx context.Context) ([]*oci.Image, error) {
	var all []*oci.Image
	err := c.documents("", func(m metadata, updated time.Time) {
		if m.Reference == "" {
			return // written by another program; its reference is in the database
		}
		image, err := c.image(m, updated)
		if err != nil {
			return
		}
		if d, err := c.openDisk(m.ManifestDigest, m.layerNames()); err == nil {
			if meta, err := d.meta(); err == nil {
				image.DiskSize = d.size(meta)
			}
		}
		all = append(all, image)
	})
	slices.SortFunc(all, func(a, b *oci.Image) int {
		return cmp.Or(b.Updated.Compare(a.Updated), cmp.Compare(a.Reference, b.Reference))
	})
	return all, errors.Join(err, ctx.Err())
}
