package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/layer"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// layerImage is the image of a layer in the cache.
type layerImage struct {
	path   string
	size   int64 // bytes
	blocks uint32
	inodes uint64
	super  [128]byte
	own    bool // made by this program, not by microsandbox 0.6.18

	lock *lock // keeps it from being removed; nil if not held
	// What the layer changes, if this process just read it from its archive: then
	// content is what the files of changes refer to.
	changes *tree.Tree
	content io.ReaderAt
}

// openLayer looks at the superblock and the root of a layer image. Only complete images
// are ever published, but the machine may have lost power, other programs may be less
// careful, and users tidy up.
func openLayer(path string) (*layerImage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", erofs.ErrCorrupt, path)
	}
	r, err := erofs.NewReader(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(r.Blocks())*erofs.BlockSize != info.Size() || len(r.Devices()) > 0 {
		return nil, fmt.Errorf("%w: %s is no layer of %d bytes", erofs.ErrCorrupt, path, info.Size())
	}
	if _, err := r.Root(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &layerImage{path: path, size: info.Size(), blocks: uint32(r.Blocks()), inodes: r.Inodes(), super: r.Super(), own: r.OwnLayer()}, nil
}

// take returns the layer's changes and what their files refer to. The caller may merge
// them; the next call reads them anew. The reader stays usable until close.
func (l *layerImage) take(maxNames int) (changes *tree.Tree, content io.ReaderAt, close func(), err error) {
	if changes, content = l.changes, l.content; changes != nil {
		l.changes = nil
		return changes, content, func() {}, nil
	}
	f, err := os.Open(l.path)
	if err != nil {
		return nil, nil, nil, err
	}
	close = func() { _ = f.Close() }
	r, err := erofs.NewReader(&windows{file: f}, l.size)
	if err == nil {
		changes, err = r.ReadLayer(maxNames)
	}
	if err != nil {
		close()
		return nil, nil, nil, fmt.Errorf("%s: %w", l.path, err)
	}
	return changes, r, close, nil
}

// builder makes layer images of one image.
type builder struct {
	*Cache
	origin       origin
	force        bool // make images anew
	built        atomic.Bool
	files, bytes atomic.Int64 // of all layers so far
	report       func(oci.Event)
}

// layer makes sure that the image of a layer is in the cache and stays there until its
// lock is released.
func (b *builder) layer(ctx context.Context, index int) (*layerImage, error) {
	l := b.origin.image().Layers[index]
	path := b.layerPath(l.DiffID)
	var image *layerImage
	held, err := provide(ctx, path+lockSuffix, b.force, func() bool {
		if image != nil {
			_, err := os.Stat(path)
			return err == nil
		}
		found, err := openLayer(path)
		if err == nil {
			image = found
		}
		return err == nil
	}, func() error {
		b.report(oci.Event{Kind: oci.EventMaterializeStarted, Layer: index, DiffID: l.DiffID, Total: l.Size})
		made, err := b.build(ctx, index, path)
		if err != nil && b.origin.finish(index, err) {
			made, err = b.build(ctx, index, path)
		}
		if err == nil {
			b.built.Store(true)
			image = made
			b.report(oci.Event{Kind: oci.EventMaterializeComplete, Layer: index, DiffID: l.DiffID})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// Also of a layer that was there: a pull that was killed right after it had published
	// the layer left its transfer behind.
	b.origin.finish(index, nil)
	image.lock = held
	return image, b.account(int64(image.inodes), image.size)
}

// account counts what a layer adds to the image.
func (b *builder) account(files, bytes int64) error {
	if b.files.Add(files) > int64(b.Limits.ImageFiles) || b.bytes.Add(bytes) > b.Limits.ImageBytes {
		return fmt.Errorf("%w: more than %d files or %d bytes in all layers", oci.ErrLimit, b.Limits.ImageFiles, b.Limits.ImageBytes)
	}
	return nil
}

// build converts a layer blob in one pass. The caller holds the layer's lock.
func (b *builder) build(ctx context.Context, index int, path string) (*layerImage, error) {
	if from, ok := b.origin.(prepared); ok {
		if err := from.publish(index, path); err != nil {
			return nil, err
		}
		return openLayer(path)
	}
	var changes *layer.Layer
	var content io.ReaderAt
	err := b.publishFile(path, func(f *os.File) error {
		w := erofs.NewLayerWriter(&eagerFile{File: f})
		var err error
		changes, err = b.read(ctx, index, w)
		if err != nil {
			return err
		}
		content = w
		_, err = w.Finish(changes.Tree)
		return classify(err)
	})
	if err != nil {
		return nil, err
	}
	made, err := openLayer(path)
	if err != nil {
		return nil, err
	}
	made.changes, made.content = changes.Tree, content
	return made, nil
}

// read reads one layer through both its digests. Its tree is returned only if both are
// right.
func (b *builder) read(ctx context.Context, index int, sink layer.Sink) (*layer.Layer, error) {
	l := b.origin.image().Layers[index]
	packed, err := b.origin.open(ctx, index)
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	s, err := newStream(&meter{ctx: ctx, r: packed, report: func(done int64) {
		b.report(oci.Event{Kind: oci.EventMaterializeProgress, Layer: index, Bytes: done, Total: l.Size})
	}}, l, b.Limits.Blob)
	if err != nil {
		return nil, err
	}
	defer s.close()
	changes, err := layer.Read(ctx, s, sink, b.Limits.Layer)
	if errors.Is(err, layer.ErrMalformed) || errors.Is(err, layer.ErrLink) || errors.Is(err, oci.ErrCompression) {
		return nil, classify(s.blame(err))
	}
	if err != nil {
		return nil, classify(err)
	}
	// What follows the end mark counts for the digests.
	_, err = io.Copy(io.Discard, s)
	return changes, err
}

// classify gives errors of rootfs their class for the users of images.
func classify(err error) error {
	switch {
	case errors.Is(err, layer.ErrLimit):
		return fmt.Errorf("%w: %w", oci.ErrLimit, err)
	case errors.Is(err, layer.ErrMalformed), errors.Is(err, layer.ErrLink), errors.Is(err, erofs.ErrTree):
		return fmt.Errorf("%w: %w", oci.ErrLayer, err)
	}
	return err
}
