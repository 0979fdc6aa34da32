package cache

import (
	"context"
	"io"

	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/manifest"
)

// origin is an image to be stored: its documents, and how to get at its layers.
type origin struct {
	*manifest.Image
	// open returns the blob of a layer from its start, unverified. It is called under the
	// layer's lock, for several layers at a time.
	open func(ctx context.Context, layer int) (io.ReadCloser, error)
}

func fromArchive(i archive.Image) origin {
	return origin{Image: &i.Image, open: func(_ context.Context, layer int) (io.ReadCloser, error) {
		return io.NopCloser(i.Open(layer)), nil
	}}
}
