package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/rootfs/erofs"
)

// File is a file of the cache that belongs to an image.
type File struct {
	Name string // in the cache, with slashes
	Path string
}

// Files returns the files of the image that a reference stands for: its document, its
// fsmeta image, descriptor and layers. They stay until release is called. An image that is
// not complete is oci.ErrNotFound.
func (c *Cache) Files(ctx context.Context, reference string) (files []File, release func(), err error) {
	r, err := ref.Parse(reference)
	if err != nil {
		return nil, nil, err
	}
	m, _, err := readMetadata(c.metadataPath(r))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.Familiar(), err)
	}
	held := map[digest.Digest]*layerImage{}
	var meta *lock
	free := func() {
		for _, l := range held {
			l.lock.release()
		}
		if meta != nil {
			meta.release()
		}
	}
	defer func() {
		if err != nil {
			free()
		}
	}()
	d := &disk{Cache: c, manifest: m.ManifestDigest, report: func(oci.Event) {}}
	paths := []string{c.metadataPath(r), c.fsmetaPath(m.ManifestDigest), c.vmdkPath(m.ManifestDigest)}
	for _, l := range m.Layers {
		if held[l.DiffID] == nil {
			own, err := c.hold(ctx, l.DiffID)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", r.Familiar(), err)
			}
			held[l.DiffID] = own
			paths = append(paths, own.path)
		}
		d.layers = append(d.layers, held[l.DiffID])
	}
	meta, err = provide(ctx, c.fsmetaLock(m.ManifestDigest), false, d.complete, func() error {
		_, err := d.make(ctx)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range paths {
		name, err := filepath.Rel(c.dir, p)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, File{Name: filepath.ToSlash(name), Path: p})
	}
	return files, free, nil
}

// Import brings images into the cache from the files of another one. Documents are
// checked against their digests; the images of layers are not, because nothing tells from
// them what a layer's archive was: whoever imports them trusts their sender. Layers that
// are there already stay, and what is joined from layers is made anew.
type Import struct {
	*Cache
	documents []metadata
	text      int64                  // bytes of documents
	layers    map[string]*os.File    // staged, by the names of their files
	held      map[string]*layerImage // there already
	bytes     int64
}

// NewImport begins an import. Nothing of it can be seen before Commit.
func (c *Cache) NewImport() *Import {
	return &Import{Cache: c, layers: map[string]*os.File{}, held: map[string]*layerImage{}}
}

// Add takes a file by its name in the other cache, and reads it to its end.
func (i *Import) Add(ctx context.Context, name string, size int64, r io.Reader) error {
	dir, file := path.Split(name)
	switch dir {
	case manifestsDir + "/":
		return i.addDocument(name, r)
	case layersDir + "/":
		return i.addLayer(ctx, strings.TrimSuffix(file, imageSuffix), size, r)
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

func (i *Import) addDocument(name string, r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, maxMetadata-i.text+1))
	if err != nil {
		return err
	}
	// Of all together: they are in memory at the same time.
	if i.text += int64(len(text)); i.text > maxMetadata {
		return fmt.Errorf("%w: more than %d bytes in all documents", oci.ErrLimit, maxMetadata)
	}
	var m metadata
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("%w: %s: %w", oci.ErrManifest, name, err)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	i.documents = append(i.documents, m)
	return nil
}

func (i *Import) addLayer(ctx context.Context, name string, size int64, r io.Reader) (err error) {
	diffID := digest.Digest(strings.Replace(name, "_", ":", 1))
	if diffID.Validate() != nil || i.layers[name] != nil || i.held[name] != nil {
		return fmt.Errorf("%w: layer %q", oci.ErrManifest, name)
	}
	if i.bytes += size; i.bytes > i.Limits.ImageBytes {
		return fmt.Errorf("%w: more than %d bytes in all layers", oci.ErrLimit, i.Limits.ImageBytes)
	}
	own, err := i.hold(ctx, diffID)
	if err == nil {
		i.held[name] = own
		_, err = io.Copy(io.Discard, r)
		return err
	}
	if !errors.Is(err, oci.ErrNotFound) {
		return err
	}
	f, err := os.CreateTemp(i.tmp(), name+".*"+newSuffix)
	if err != nil {
		return err
	}
	i.layers[name] = f
	// While it is locked, sweep leaves it alone.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Sync()
}

// Commit makes the images that are wanted, by the digests of their manifests, ready to
// boot under the references that the map gives them, and returns those that were added.
// After an error some may be there; each of them is complete.
func (i *Import) Commit(ctx context.Context, wanted map[digest.Digest]ref.Reference) ([]*oci.Image, error) {
	var all []*oci.Image
	done := map[digest.Digest]bool{}
	for _, m := range i.documents {
		reference, ok := wanted[m.ManifestDigest]
		if !ok || done[m.ManifestDigest] {
			continue
		}
		done[m.ManifestDigest] = true
		image, err := i.resolve(ctx, m)
		if err != nil {
			return all, fmt.Errorf("%s: %w", reference.Familiar(), err)
		}
		stored, err := i.store(ctx, &imported{i, image}, []ref.Reference{reference}, storeOptions{report: func(oci.Event) {}})
		if err != nil {
			return all, fmt.Errorf("%s: %w", reference.Familiar(), err)
		}
		all = append(all, stored...)
	}
	return all, nil
}

// resolve reads the documents inside a document, past everything that it says itself.
func (i *Import) resolve(ctx context.Context, m metadata) (*manifest.Image, error) {
	top, err := manifest.Parse([]byte(m.RawManifest))
	if err != nil {
		return nil, err
	}
	r := manifest.Resolver{Platform: i.Platform, Limits: manifest.DefaultLimits(), Fetch: func(_ context.Context, d spec.Descriptor) ([]byte, error) {
		text := m.RawConfig
		if d.Digest == m.ManifestDigest {
			text = m.RawManifest
		}
		if got := d.Digest.Algorithm().FromString(text); got != d.Digest {
			return nil, fmt.Errorf("%w: a document of %s is %s", oci.ErrDigestMismatch, d.Digest, got)
		}
		return []byte(text), nil
	}}
	image, _, err := r.Resolve(ctx, spec.Descriptor{MediaType: top.Kind(), Digest: m.ManifestDigest, Size: int64(len(m.RawManifest))})
	return image, err
}

// Close forgets what was not committed.
func (i *Import) Close() error {
	var errs []error
	for _, f := range i.layers {
		if _, err := os.Lstat(f.Name()); err == nil { // it was not renamed
			errs = append(errs, os.Remove(f.Name()))
		}
		errs = append(errs, f.Close())
	}
	for _, l := range i.held {
		l.lock.release()
	}
	i.layers, i.held = map[string]*os.File{}, map[string]*layerImage{}
	return errors.Join(errs...)
}

// prepared is an origin that has layers as images already.
type prepared interface {
	// publish moves the image of a layer to path. The caller holds the layer's lock.
	publish(layer int, path string) error
}

// imported is an image whose layers were staged.
type imported struct {
	from      *Import
	documents *manifest.Image
}

func (o *imported) image() *manifest.Image { return o.documents }

func (o *imported) open(context.Context, int) (io.ReadCloser, error) {
	return nil, oci.ErrNotFound // publish is called instead
}

func (o *imported) finish(int, error) bool { return false }

func (o *imported) publish(layer int, path string) error {
	f := o.from.layers[safe(o.documents.Layers[layer].DiffID)]
	if f == nil {
		return fmt.Errorf("%w: the archive lacks it", oci.ErrNotFound)
	}
	if _, err := openLayer(f.Name()); err != nil {
		if errors.Is(err, erofs.ErrCorrupt) || errors.Is(err, erofs.ErrUnsupported) {
			err = fmt.Errorf("%w: %w", oci.ErrLayer, err)
		}
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
