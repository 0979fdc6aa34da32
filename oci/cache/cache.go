package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/blob"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/layer"
	"github.com/gomsb/gomsb/rootfs/stitch"
)

// Cache is a directory of images. Processes and goroutines may share it: writers
// exclude each other by locks, readers see complete files only.
type Cache struct {
	dir string
	// Platform is what images must run on: linux on this machine's architecture.
	Platform archive.Platform
	// Limits stop hostile images.
	Limits Limits
}

// Limits bounds archives, layers, and images as a whole.
type Limits struct {
	Archive    archive.Limits
	Blob       blob.Limits
	Layer      layer.Limits
	ImageFiles int   // files of all layers together, replaced ones included
	ImageBytes int64 // their content
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
	for _, sub := range []string{manifestsDir, rootsDir, vmdkDir, tmpDir} {
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
		Platform: archive.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Limits:   DefaultLimits(),
	}, nil
}

// Image returns the image a reference stands for, ready to boot: its files exist, and
// the VMDK descriptor names them where they are now. An image that is not there, or
// whose root image is, is oci.ErrNotFound.
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
	_, image.RootImageSize, err = c.Disk(ctx, m.ManifestDigest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Familiar(), err)
	}
	return image, nil
}

// Disk returns the VMDK descriptor of an image's root disk, and the size of that disk in
// bytes, whether or not a reference stands for the image. An image whose root image is
// not there is oci.ErrNotFound.
func (c *Cache) Disk(ctx context.Context, manifest digest.Digest) (vmdk string, size int64, err error) {
	if err := manifest.Validate(); err != nil {
		return "", 0, fmt.Errorf("%w: %w", oci.ErrManifest, err)
	}
	if size, err = c.checkRoot(manifest); err != nil {
		return "", 0, fmt.Errorf("%w; load the image again", err)
	}
	if c.vmdkCurrent(manifest, size) {
		return c.vmdkPath(manifest), size, nil
	}
	held, err := acquire(ctx, c.rootLock(manifest))
	if err != nil {
		return "", 0, err
	}
	defer held.release()
	return c.vmdkPath(manifest), size, c.writeVMDK(manifest, size)
}

// List returns the images of all references, newest first. Images whose root image is
// missing are included with RootImageSize 0.
func (c *Cache) List(ctx context.Context) ([]*oci.Image, error) {
	var all []*oci.Image
	err := c.documents(func(_ string, m metadata, updated time.Time) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if m.Reference == "" {
			return nil // written by another program; its reference is in the database
		}
		image, err := c.image(m, updated)
		if err != nil {
			return nil
		}
		if image.RootImageSize, err = c.checkRoot(m.ManifestDigest); err != nil && !errors.Is(err, oci.ErrNotFound) {
			return err
		}
		all = append(all, image)
		return nil
	})
	slices.SortFunc(all, func(a, b *oci.Image) int {
		return cmp.Or(b.Updated.Compare(a.Updated), cmp.Compare(a.Reference, b.Reference))
	})
	return all, err
}

// Remove forgets a reference and, if no other reference stands for the same image, its
// files; a running microVM keeps those it has open. It returns the manifest digest and
// whether the image itself is gone. An unknown reference is oci.ErrNotFound.
func (c *Cache) Remove(ctx context.Context, reference string) (manifest digest.Digest, last bool, err error) {
	r, err := ref.Parse(reference)
	if err != nil {
		return "", false, err
	}
	held, err := acquire(ctx, c.referenceLock(r))
	if err != nil {
		return "", false, err
	}
	defer held.release()
	m, _, err := readMetadata(c.metadataPath(r))
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", r.Familiar(), err)
	}
	root, err := acquire(ctx, c.rootLock(m.ManifestDigest))
	if err != nil {
		return "", false, err
	}
	defer root.release()
	if err := os.Remove(c.metadataPath(r)); err != nil {
		return "", false, err
	}
	last = true
	if err := c.documents(func(_ string, other metadata, _ time.Time) error {
		last = last && other.ManifestDigest != m.ManifestDigest
		return nil
	}); err != nil {
		return m.ManifestDigest, false, err
	}
	err = syncDir(filepath.Join(c.dir, manifestsDir))
	if last {
		err = errors.Join(err, removeIfThere(c.vmdkPath(m.ManifestDigest)), removeIfThere(c.rootPath(m.ManifestDigest)))
	}
	return m.ManifestDigest, last, err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// checkRoot returns the size of a root image after a look at its superblock. Only
// complete images are ever published, but the machine may have lost power, and users
// tidy up.
func (c *Cache) checkRoot(manifest digest.Digest) (int64, error) {
	f, err := os.Open(c.rootPath(manifest))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: its root image is gone", oci.ErrNotFound)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	r, err := erofs.NewReader(f, info.Size())
	if err != nil || int64(r.Blocks())*erofs.BlockSize != info.Size() {
		return 0, fmt.Errorf("%w: its root image is damaged", oci.ErrNotFound)
	}
	return info.Size(), nil
}

func (c *Cache) descriptor(manifest digest.Digest, size int64) ([]byte, error) {
	return stitch.Descriptor([]stitch.Extent{{Path: c.rootPath(manifest), Size: size}})
}

// vmdkCurrent reports whether the descriptor is there and describes the root image as
// it is; it does not after the cache was moved.
func (c *Cache) vmdkCurrent(manifest digest.Digest, size int64) bool {
	want, err := c.descriptor(manifest, size)
	if err != nil {
		return false
	}
	got, err := os.ReadFile(c.vmdkPath(manifest))
	return err == nil && bytes.Equal(got, want)
}

// writeVMDK publishes the descriptor; the caller holds the root lock.
func (c *Cache) writeVMDK(manifest digest.Digest, size int64) error {
	text, err := c.descriptor(manifest, size)
	if err != nil {
		return err
	}
	return c.publish(c.vmdkPath(manifest), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
