package cache

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/layer"
)

// Save writes images as an archive that docker load, Load and others read. The layers'
// tar streams are made anew from their images, so digests are others than before while
// the content is equal. An image that is not complete is oci.ErrNotFound.
func (c *Cache) Save(ctx context.Context, w io.Writer, format archive.Format, references ...string) error {
	refs, err := parseAll(references)
	if err != nil {
		return err
	}
	held := map[digest.Digest]*layerImage{}
	defer func() {
		for _, l := range held {
			l.lock.release()
		}
	}()
	var exports []archive.Export
	for _, r := range refs {
		i, err := c.export(ctx, r, held)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Familiar(), err)
		}
		exports = append(exports, i)
	}
	out := bufio.NewWriterSize(w, 1<<20)
	if err := archive.Write(ctx, out, format, exports); err != nil {
		return err
	}
	return out.Flush()
}

// export describes an image and keeps its layers from being removed.
func (c *Cache) export(ctx context.Context, r ref.Reference, held map[digest.Digest]*layerImage) (archive.Export, error) {
	m, _, err := readMetadata(c.metadataPath(r))
	if err != nil {
		return archive.Export{}, err
	}
	parsed, err := manifest.ParseConfig([]byte(m.RawConfig))
	if err != nil {
		return archive.Export{}, err
	}
	e := archive.Export{Name: r.Familiar(), FullName: r.String(), Platform: parsed.Platform, Config: []byte(m.RawConfig)}
	if e.Platform.OS == "" {
		e.Platform.OS = c.Platform.OS
	}
	if e.Platform.Architecture == "" {
		e.Platform.Architecture = c.Platform.Architecture
	}
	for _, l := range m.Layers {
		own := held[l.DiffID]
		if own == nil {
			if own, err = c.hold(ctx, l.DiffID); err != nil {
				return archive.Export{}, err
			}
			held[l.DiffID] = own
		}
		e.Layers = append(e.Layers, archive.ExportLayer{Key: l.DiffID, Write: func(ctx context.Context, w io.Writer) error {
			return own.unpack(ctx, w, c.Limits.Layer.Entries*2)
		}})
	}
	return e, nil
}

// hold returns the image of a layer, locked against removal.
func (c *Cache) hold(ctx context.Context, diffID digest.Digest) (*layerImage, error) {
	path := c.layerPath(diffID)
	var image *layerImage
	var why error
	lock, err := provide(ctx, path+lockSuffix, false, func() bool {
		image, why = openLayer(path)
		return why == nil
	}, func() error {
		return fmt.Errorf("%w: a layer of it is gone or damaged: %w", oci.ErrNotFound, why)
	})
	if err != nil {
		return nil, err
	}
	image.lock = lock
	return image, nil
}

// unpack writes the tar stream of a layer.
func (l *layerImage) unpack(ctx context.Context, w io.Writer, maxNames int) error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := erofs.NewReader(&windows{file: f}, l.size)
	if err != nil {
		return err
	}
	changes, err := r.ReadLayer(maxNames)
	if err != nil {
		return err
	}
	return layer.Write(ctx, w, changes)
}
