package cache

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/blob"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/layer"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// convert makes the root image of an image and returns its size; the caller holds the
// root lock. File content waits in a spool without a name, so a killed process leaves
// nothing behind but a .part file that sweep removes.
func (c *Cache) convert(ctx context.Context, image archive.Image, report func(oci.Event)) (int64, error) {
	spool, err := layer.NewSpool(c.tmp())
	if err != nil {
		return 0, err
	}
	defer spool.Close()
	root, err := c.flatten(ctx, image, spool, report)
	if err != nil {
		return 0, err
	}
	report(oci.Event{Kind: oci.EventWriting})
	var info erofs.Info
	err = c.publish(c.rootPath(image.ManifestDigest), func(w io.Writer) error {
		var err error
		info, err = erofs.Build(ctxWriter{ctx, w}, root)
		return err
	})
	if errors.Is(err, erofs.ErrTree) {
		err = fmt.Errorf("%w: %w", oci.ErrLayer, err)
	}
	return info.Size(), err
}

// flatten applies the layers from the bottom up.
func (c *Cache) flatten(ctx context.Context, image archive.Image, spool *layer.Spool, report func(oci.Event)) (*tree.Tree, error) {
	root := tree.New()
	files := 0
	for i, l := range image.Layers {
		report(oci.Event{Kind: oci.EventMaterializeStarted, Layer: i, DiffID: l.DiffID, Total: l.Size})
		limits := c.Limits.Layer
		limits.Entries = min(limits.Entries, c.Limits.ImageFiles-files)
		limits.LayerBytes = min(limits.LayerBytes, c.Limits.ImageBytes-spool.Size())
		changes, err := c.read(ctx, l, spool, layer.Options{Limits: limits, Lower: root}, func(done int64) {
			report(oci.Event{Kind: oci.EventMaterializeProgress, Layer: i, Bytes: done, Total: l.Size})
		})
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d (%s): %w", i+1, len(image.Layers), l.BlobDigest, err)
		}
		files += changes.Files
		root.Merge(changes.Tree)
		report(oci.Event{Kind: oci.EventMaterializeComplete, Layer: i, DiffID: l.DiffID})
	}
	report(oci.Event{Kind: oci.EventMerging, Layers: len(image.Layers)})
	return root, nil
}

// read reads one layer through both its digests. Its tree is returned only if both are
// right.
func (c *Cache) read(ctx context.Context, l archive.Layer, spool *layer.Spool, opts layer.Options, progress func(int64)) (*layer.Layer, error) {
	packed, err := blob.NewVerifier(&meter{ctx: ctx, r: l.Open(), report: progress}, l.BlobDigest, l.Size)
	if err != nil {
		return nil, err
	}
	limits := c.Limits.Blob
	plain, err := blob.Decompress(packed, limits)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var verified io.Reader = plain
	if plain.Compression != blob.None || l.BlobDigest != l.DiffID { // else packed hashes the same bytes
		if verified, err = blob.NewVerifier(plain, l.DiffID, -1); err != nil {
			return nil, err
		}
	}
	changes, err := layer.Read(ctx, verified, spool, opts)
	if errors.Is(err, layer.ErrMalformed) || errors.Is(err, layer.ErrLink) || errors.Is(err, oci.ErrCompression) {
		// Nonsense in the layer is most often damage on the way; say so if it is.
		for _, stream := range []io.Reader{verified, packed} {
			if _, cause := io.Copy(io.Discard, stream); errors.Is(cause, oci.ErrDigestMismatch) {
				return nil, fmt.Errorf("%w: %w", cause, err)
			}
		}
	}
	switch {
	case errors.Is(err, layer.ErrLimit):
		return nil, fmt.Errorf("%w: %w", oci.ErrLimit, err)
	case errors.Is(err, layer.ErrMalformed), errors.Is(err, layer.ErrLink):
		return nil, fmt.Errorf("%w: %w", oci.ErrLayer, err)
	case err != nil:
		return nil, err
	}
	// What follows the end mark counts for the digests.
	_, err = io.Copy(io.Discard, verified)
	return changes, err
}

// progressStep is the least number of bytes between two progress events.
const progressStep = 256 << 10

// meter reports how much was read and ends when ctx does.
type meter struct {
	ctx      context.Context
	r        io.Reader
	n, shown int64
	report   func(int64)
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	if m.n-m.shown >= progressStep || err == io.EOF && m.n > m.shown {
		m.shown = m.n
		m.report(m.n)
	}
	return n, err
}

type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
