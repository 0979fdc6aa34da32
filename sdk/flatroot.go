package microsandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/flat"
	"github.com/gomsb/gomsb/rootfs/stitch"
	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// flatName is the file of a flat root disk in the sandbox's directory.
const flatName = "rootfs.raw"

// flatRoots are the images' own flat file systems.
func (h home) flatRoots() flat.Store {
	return flat.Store{Dir: filepath.Join(h.cache(), "flat"), Tmp: filepath.Join(h.cache(), "tmp")}
}

// flatRoot is an image's flat file system, made if it is not there.
func (h home) flatRoot(ctx context.Context, img *oci.Image) (flat.Root, error) {
	of := flat.Image{Manifest: img.ManifestDigest.String(), OS: img.OS, Architecture: img.Architecture, Variant: img.Variant}
	for _, l := range img.Layers {
		of.DiffIDs = append(of.DiffIDs, l.DiffID.String())
	}
	root, err := h.flatRoots().Root(ctx, of, func(use func(*tree.Tree) error) error { return imageTree(ctx, img.VMDK, use) })
	return root, wrap(ErrIO, err)
}

// provisionFlat makes the flat root disk of a new sandbox in dir.
func (b *boot) provisionFlat(ctx context.Context, dir string) error {
	root, err := b.home.flatRoot(ctx, b.image)
	if err != nil {
		return err
	}
	disk := b.spec.Image.OCI.RootDisk
	size := max(root.Size, defaultRootDiskMiB<<20)
	if disk.SizeMiB != nil {
		if size = int64(*disk.SizeMiB) << 20; size < root.Size {
			return fail(ErrInvalidConfig, "a flat root disk of %d MiB is too small for image %s: it needs %d MiB", *disk.SizeMiB, b.spec.Image.OCI.Reference, root.Size>>20)
		}
	}
	path := filepath.Join(dir, flatName)
	if err := cloneDisk(ctx, path, root.Path, FlatClone(disk.Clone)); err != nil {
		return wrap(ErrIO, err)
	}
	return wrap(ErrIO, ext4.Grow(path, size))
}

// maxImageNames bounds the names of an image that becomes a flat disk.
const maxImageNames = 4_000_000

// imageTree calls use with all files of the image of a descriptor, which can be read as
// long as ctx lasts.
func imageTree(ctx context.Context, vmdk string, use func(*tree.Tree) error) (err error) {
	disk, err := stitch.Open(vmdk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	image, err := erofs.NewReader(ctxReaderAt{ctx, disk}, disk.Size())
	if err != nil {
		return err
	}
	t, err := image.Tree(maxImageNames)
	if err != nil {
		return err
	}
	return use(t)
}

// ctxReaderAt reads as long as its context lasts.
type ctxReaderAt struct {
	ctx context.Context
	r   io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (c ctxReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.ReadAt(p, off)
}

// cloneDisk copies a disk image to a new file.
func cloneDisk(ctx context.Context, dst, src string, how FlatClone) (err error) {
	from, err := sparse.Open(src)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	switch how {
	case FlatCloneReflink:
		err = sparse.Share(to, from)
	case FlatCloneCopy:
		err = sparse.CopyData(ctx, to, from)
	default:
		err = sparse.Copy(ctx, to, from)
	}
	return errors.Join(err, to.Close())
}

// pruneFlat removes the flat file systems of images that nobody uses.
func (h home) pruneFlat(keep map[digest.Digest]bool) (int64, error) {
	freed, err := h.flatRoots().Prune(func(manifest string) bool { return keep[digest.Digest(manifest)] })
	if err != nil {
		err = fmt.Errorf("flat root file systems: %w", err)
	}
	return freed, err
}
