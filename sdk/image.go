package microsandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/oci"
	imagearchive "github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/cache"
	"github.com/gomsb/gomsb/oci/ref"
)

type imageFactory struct{}

// Image works on the image cache.
var Image imageFactory

// ImageHandle is one reference of the image cache.
type ImageHandle struct{ img store.Image }

// Reference is the reference as it was given to who pulled or loaded the image.
func (i *ImageHandle) Reference() string { return i.img.Reference }

// ManifestDigest is the digest of the platform's manifest.
func (i *ImageHandle) ManifestDigest() string { return i.img.Digest }

// Architecture is the CPU architecture in Go's words.
func (i *ImageHandle) Architecture() string { return i.img.Architecture }

// OS is the operating system.
func (i *ImageHandle) OS() string { return i.img.OS }

// LayerCount is the number of layers.
func (i *ImageHandle) LayerCount() uint { return uint(max(i.img.LayerCount, 0)) }

// SizeBytes is the size of all layer blobs, nil if unknown.
func (i *ImageHandle) SizeBytes() *int64 { return pointer(i.img.TotalSize) }

// CreatedAt is when the image was first stored, zero if unknown.
func (i *ImageHandle) CreatedAt() time.Time { return i.img.CreatedAt }

// LastUsedAt is when the image was last stored, zero if unknown.
func (i *ImageHandle) LastUsedAt() time.Time { return i.img.UpdatedAt }

// Inspect adds configuration and layers.
func (i *ImageHandle) Inspect(ctx context.Context) (*ImageDetail, error) {
	return Image.Inspect(ctx, i.img.Reference)
}

// Remove removes the reference.
func (i *ImageHandle) Remove(ctx context.Context, force bool) error {
	return Image.Remove(ctx, i.img.Reference, force)
}

// ImageDetail is an image with its configuration and layers.
type ImageDetail struct {
	*ImageHandle
	Config *ImageConfig
	Layers []ImageLayer
}

// ImageConfig is what an image says about running it.
type ImageConfig struct {
	Digest          string
	Env             []string // "K=V"
	Cmd, Entrypoint []string
	WorkingDir      string
	User            string
	Labels          map[string]string
	StopSignal      string
}

// ImageLayer is one layer, lowest first.
type ImageLayer struct {
	DiffID, BlobDigest, MediaType string
	CompressedSizeBytes           *int64
	ErofsSizeBytes                *int64
	Position                      int
}

// canonical turns what a person typed into the cache's key.
func canonical(text string) (string, error) {
	r, err := ref.Parse(text)
	if err != nil {
		return "", wrap(ErrInvalidArgument, err)
	}
	return r.String(), nil
}

func imageError(reference string, err error) error {
	var used *store.InUseError
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, oci.ErrNotFound):
		return fail(ErrImageNotFound, "image not found: %s", reference)
	case errors.As(err, &used):
		return &Error{Kind: ErrImageInUse, Message: "image in use by sandbox(es): " + strings.Join(used.Sandboxes, ", ")}
	}
	return wrap(ErrInternal, err)
}

// Get looks a reference up.
func (imageFactory) Get(ctx context.Context, reference string) (*ImageHandle, error) {
	d, err := Image.Inspect(ctx, reference)
	if err != nil {
		return nil, err
	}
	return d.ImageHandle, nil
}

// List returns all references, newest first.
func (imageFactory) List(ctx context.Context) ([]*ImageHandle, error) {
	c, err := openOwnCatalog(ctx, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.close()
	images, err := c.store.Images(ctx)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	all := make([]*ImageHandle, 0, len(images))
	for _, img := range images {
		all = append(all, &ImageHandle{img})
	}
	return all, nil
}

// onImage runs f on the catalogue with the names under which it has a reference.
func onImage(ctx context.Context, h home, reference string, f func(s *store.Store, rows []store.Image) error) error {
	if _, err := canonical(reference); err != nil {
		return err
	}
	c, err := openCatalog(ctx, h, false)
	if err == nil {
		defer c.close()
		var rows []store.Image
		switch rows, err = spellings(ctx, c.store, reference); {
		case err == nil && len(rows) == 0:
			err = store.ErrNotFound
		case err == nil:
			err = f(c.store, rows)
		}
	}
	if errors.Is(err, store.ErrNoDatabase) {
		err = store.ErrNotFound
	}
	return imageError(reference, err)
}

// spellings returns the rows that mean a reference, however it was typed: the one of the
// very name first, unless it is of an older image than another, then the newest.
func spellings(ctx context.Context, s *store.Store, reference string) ([]store.Image, error) {
	wanted, err := canonical(reference)
	if err != nil {
		return nil, err
	}
	all, err := s.Images(ctx)
	if err != nil {
		return nil, err
	}
	same := slices.DeleteFunc(all, func(i store.Image) bool {
		own, err := canonical(i.Reference)
		return err != nil || own != wanted
	})
	slices.SortStableFunc(same, func(a, b store.Image) int { return b.UpdatedAt.Compare(a.UpdatedAt) })
	if n := slices.IndexFunc(same, func(i store.Image) bool { return i.Reference == reference }); n > 0 && same[n].Digest == same[0].Digest {
		same[0], same[n] = same[n], same[0]
	}
	return same, nil
}

// saveImage records an image under the name that was given for it, and has all other
// spellings of that stand for the same image.
func (c *catalog) saveImage(ctx context.Context, i *oci.Image) (store.Image, error) {
	row := stored(i)
	others, err := spellings(ctx, c.store, i.Reference)
	if err != nil {
		return row, wrap(ErrInternal, err)
	}
	for _, other := range others {
		if other.Reference != row.Reference && other.Digest != row.Digest {
			moved := row
			moved.Reference = other.Reference
			if err := c.store.SaveImage(ctx, moved); err != nil {
				return row, wrap(ErrInternal, err)
			}
		}
	}
	return row, wrap(ErrInternal, c.store.SaveImage(ctx, row))
}

// Inspect returns a reference with its configuration and layers.
func (imageFactory) Inspect(ctx context.Context, reference string) (*ImageDetail, error) {
	var img store.Image
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	err = onImage(ctx, h, reference, func(s *store.Store, rows []store.Image) (err error) {
		img, err = s.Image(ctx, rows[0].Reference)
		return err
	})
	if err != nil {
		return nil, err
	}
	c := img.Config
	d := &ImageDetail{ImageHandle: &ImageHandle{img}, Config: &ImageConfig{Digest: img.ConfigDigest, Env: c.Env, Cmd: c.Cmd, Entrypoint: c.Entrypoint,
		WorkingDir: c.WorkingDir, User: c.User, Labels: c.Labels, StopSignal: c.StopSignal}}
	for n, l := range img.Layers {
		d.Layers = append(d.Layers, ImageLayer{DiffID: l.DiffID, BlobDigest: l.BlobDigest, MediaType: l.MediaType,
			CompressedSizeBytes: pointer(l.CompressedSize), ErofsSizeBytes: pointer(l.ErofsSize), Position: n})
	}
	return d, nil
}

// Remove deletes a reference, and the image's files with the last one. An image that a
// sandbox uses is ErrImageInUse unless force.
func (imageFactory) Remove(ctx context.Context, reference string, force bool) error {
	h, err := openHome()
	if err != nil {
		return err
	}
	err = onImage(ctx, h, reference, func(s *store.Store, rows []store.Image) error {
		for _, row := range rows {
			if _, err := s.RemoveImage(ctx, row.Reference, force); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	images, err := cache.Open(h.cache())
	if err != nil {
		return wrap(ErrIO, err)
	}
	manifest, last, err := images.Remove(ctx, reference)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		err = nil // files that are gone already
	case err == nil && last:
		_, err = h.flatRoots().Prune(func(m string) bool { return m != manifest.String() })
	}
	return wrap(ErrIO, err)
}

// ImagePruneReport counts what Prune removed.
type ImagePruneReport struct {
	ImageRefsRemoved uint32
	ManifestsRemoved uint32
	LayersRemoved    uint32
	FsmetaRemoved    uint32
	VMDKRemoved      uint32
	BytesReclaimed   *uint64 // on disk; nil if no file was removed
}

// Prune removes all images that neither a sandbox nor a snapshot uses, with their files,
// and what interrupted work left in the cache: on a full disk also downloads that could
// be resumed.
func (imageFactory) Prune(ctx context.Context) (*ImagePruneReport, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	images, err := cache.Open(h.cache())
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	report := &ImagePruneReport{}
	keep := map[digest.Digest]bool{}
	c, err := openCatalog(ctx, h, false)
	var dropped int64
	if errors.Is(err, store.ErrFull) { // the catalogue needs a little room itself
		if dropped, err = images.DropInterrupted(); err != nil {
			return nil, wrap(ErrIO, err)
		}
		c, err = openCatalog(ctx, h, false)
	}
	switch {
	case errors.Is(err, store.ErrNoDatabase): // then nobody uses any
	case err != nil:
		return nil, err
	default:
		defer c.close()
		c.indexFolder(ctx) // the images of snapshots that were copied there are in use too
		removed, err := c.store.PruneImages(ctx)
		if err != nil {
			return nil, wrap(ErrInternal, err)
		}
		report.ImageRefsRemoved, report.ManifestsRemoved, report.LayersRemoved = count(removed.References), count(removed.Manifests), count(removed.Layers)
		used, err := c.store.Manifests(ctx)
		if err != nil {
			return nil, wrap(ErrInternal, err)
		}
		for _, d := range used {
			keep[digest.Digest(d)] = true
		}
	}
	gone, err := images.Prune(ctx, keep)
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	flat, err := h.pruneFlat(keep)
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	gone.Bytes += flat + dropped
	report.FsmetaRemoved, report.VMDKRemoved = uint32(gone.Fsmeta), uint32(gone.VMDK)
	// Files that the catalogue did not know count too.
	report.ImageRefsRemoved = max(report.ImageRefsRemoved, uint32(gone.References))
	report.LayersRemoved = max(report.LayersRemoved, uint32(gone.Layers))
	if gone.Bytes > 0 {
		bytes := uint64(gone.Bytes)
		report.BytesReclaimed = &bytes
	}
	return report, nil
}

func count[T any](all []T) uint32 { return uint32(len(all)) }

// ImageArchiveFormat is the form of an image archive.
type ImageArchiveFormat string

// The forms of image archives; the default is ImageArchiveDocker.
const (
	ImageArchiveDocker ImageArchiveFormat = "docker" // as docker save writes it
	ImageArchiveOCI    ImageArchiveFormat = "oci"    // an OCI image layout
)

// Save writes images to an archive file that Load, docker load and others read. The file
// appears when it is complete. Layers are written anew from what the cache has of them,
// so the digests in the archive are others.
func (imageFactory) Save(ctx context.Context, references []string, out string, format ImageArchiveFormat) error {
	return writeOutput(out, func(w io.Writer) error { return Image.SaveTo(ctx, references, w, format) })
}

// SaveTo is Save for a stream.
func (imageFactory) SaveTo(ctx context.Context, references []string, w io.Writer, format ImageArchiveFormat) error {
	if len(references) == 0 {
		return fail(ErrInvalidArgument, "no image to save")
	}
	if format == "" {
		format = ImageArchiveDocker
	}
	if format != ImageArchiveDocker && format != ImageArchiveOCI {
		return fail(ErrInvalidArgument, "unknown image archive format %q: use docker or oci", format)
	}
	h, err := openHome()
	if err != nil {
		return err
	}
	images, err := cache.Open(h.cache())
	if err != nil {
		return wrap(ErrIO, err)
	}
	for _, reference := range references {
		name, err := canonical(reference)
		if err != nil {
			return err
		}
		if _, err := images.Image(ctx, name); err != nil {
			return imageError(reference, err)
		}
	}
	return wrap(ErrIO, images.Save(ctx, w, imagearchive.Format(format), references...))
}

// Load stores the images of a docker-save or OCI-layout archive file. The tags name the
// first image besides the names in the archive.
func (imageFactory) Load(ctx context.Context, path string, tags ...string) ([]*ImageHandle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	defer f.Close()
	return Image.LoadFrom(ctx, f, tags...)
}

// LoadFrom is Load for a stream.
func (imageFactory) LoadFrom(ctx context.Context, r io.Reader, tags ...string) ([]*ImageHandle, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	images, err := cache.Open(h.cache())
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	loaded, loadErr := images.Load(ctx, r, cache.LoadOptions{Tags: tags})
	if loadErr != nil {
		loadErr = &Error{Kind: loadKind(loadErr), Message: "load image", Cause: loadErr}
		if len(loaded) == 0 {
			return nil, loadErr
		}
	}
	// What was stored before an error is stored: the catalogue has to know it.
	keep := context.WithoutCancel(ctx)
	c, err := openCatalog(keep, h, true)
	if err != nil {
		return nil, errors.Join(loadErr, err)
	}
	defer c.close()
	all := make([]*ImageHandle, 0, len(loaded))
	for _, i := range loaded {
		row, err := c.saveImage(keep, i)
		if err != nil {
			return nil, errors.Join(loadErr, err)
		}
		all = append(all, &ImageHandle{row})
	}
	if loadErr != nil {
		return nil, loadErr
	}
	return all, nil
}

func loadKind(err error) ErrorKind {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ErrCancelled
	case errors.Is(err, oci.ErrReference), errors.Is(err, oci.ErrUntagged), errors.Is(err, oci.ErrArchive), errors.Is(err, oci.ErrManifest), errors.Is(err, oci.ErrLayer), errors.Is(err, oci.ErrLimit),
		errors.Is(err, oci.ErrDigestMismatch), errors.Is(err, oci.ErrSizeMismatch), errors.Is(err, oci.ErrCompression), errors.Is(err, oci.ErrMediaType), errors.Is(err, oci.ErrPlatform):
		return ErrInvalidArgument
	}
	return ErrIO
}

// stored is the catalogue's form of a cached image.
func stored(i *oci.Image) store.Image {
	c := i.Config
	img := store.Image{
		Reference: i.Name, Digest: i.ManifestDigest.String(), MediaType: i.MediaType, ConfigDigest: i.ConfigDigest.String(),
		Architecture: i.Architecture, OS: i.OS, Variant: i.Variant, LayerCount: len(i.Layers), TotalSize: i.TotalSize(), CreatedAt: i.Updated, UpdatedAt: i.Updated,
		Config: store.ImageConfig{Env: c.Env, Cmd: c.Cmd, Entrypoint: c.Entrypoint, WorkingDir: c.WorkingDir, User: c.User, Labels: c.Labels, StopSignal: c.StopSignal},
	}
	for _, l := range i.Layers {
		img.Layers = append(img.Layers, store.Layer{DiffID: l.DiffID.String(), BlobDigest: l.BlobDigest.String(), MediaType: l.MediaType, CompressedSize: l.Size, ErofsSize: l.ImageSize})
	}
	return img
}
