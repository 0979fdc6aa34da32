package cache

import (
	"context"
	"io"

	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/manifest"
)

// origin is where an image comes from. Its methods are called for several layers at a
// time, each under the layer's lock.
type origin interface {
	image() *manifest.Image
	// open returns the blob of a layer from its start, unverified.
	open(ctx context.Context, layer int) (io.ReadCloser, error)
	// finish is told how the conversion of an opened layer ended. It reports whether
	// another attempt makes sense.
	finish(layer int, err error) (again bool)
}

// archived is an image in an archive.
type archived struct{ archive.Image }

func (a *archived) image() *manifest.Image { return &a.Image.Image }

func (a *archived) open(_ context.Context, layer int) (io.ReadCloser, error) {
	return io.NopCloser(a.Open(layer)), nil
}

func (a *archived) finish(int, error) bool { return false }
