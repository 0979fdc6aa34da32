package registry

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
)

// accepted are the kinds of documents that a reference may stand for.
var accepted = strings.Join([]string{spec.MediaTypeImageIndex, manifest.DockerIndex, spec.MediaTypeImageManifest, manifest.DockerManifest}, ", ")

var errTooLarge = fmt.Errorf("%w: a document", oci.ErrLimit)

// Resolve returns the image for a platform that a reference stands for. Its documents are
// exactly the bytes of the registry and hash to their digests; a digest in the reference
// is held against what the registry delivers. Errors wrap a class of package oci.
func (c *Client) Resolve(ctx context.Context, r ref.Reference, platform manifest.Platform) (*manifest.Image, error) {
	f := &fetcher{Client: c, reference: r, documents: map[digest.Digest][]byte{}}
	top, err := f.top(ctx)
	if err != nil {
		return nil, err
	}
	resolver := &manifest.Resolver{Fetch: f.fetch, Platform: platform, Limits: c.Limits.Documents}
	image, _, err := resolver.Resolve(ctx, top)
	return image, err
}

// fetcher reads the documents of one image.
type fetcher struct {
	*Client
	reference ref.Reference
	documents map[digest.Digest][]byte // that were read already
	total     int64
}

// top reads what the reference itself stands for and returns its descriptor.
func (f *fetcher) top(ctx context.Context) (spec.Descriptor, error) {
	want := f.reference.Digest()
	tag := f.reference.Tag()
	if want != "" {
		tag = want.String()
	}
	raw, header, err := f.document(ctx, "/manifests/"+tag)
	if err != nil {
		return spec.Descriptor{}, err
	}
	own := digest.FromBytes(raw)
	if want != "" && want.Algorithm() != digest.SHA256 {
		own = want.Algorithm().FromBytes(raw)
	}
	if stated := digest.Digest(header.Get("Docker-Content-Digest")); want == "" && stated.Validate() == nil && stated.Algorithm().Available() {
		want = stated
		own = want.Algorithm().FromBytes(raw)
	}
	if want != "" && want != own {
		return spec.Descriptor{}, fmt.Errorf("%w: the registry delivers %s for %s", oci.ErrDigestMismatch, own, want)
	}
	kind, err := mediaType(raw, header.Get("Content-Type"))
	if err != nil {
		return spec.Descriptor{}, err
	}
	f.documents[own] = raw
	return spec.Descriptor{MediaType: kind, Digest: own, Size: int64(len(raw))}, nil
}

// mediaType decides what a document is by what it says itself and what the registry
// says of it, which must not contradict each other.
func mediaType(raw []byte, header string) (string, error) {
	stated, _, err := mime.ParseMediaType(header)
	if err != nil {
		stated = ""
	}
	doc, err := manifest.Parse(raw)
	if err != nil {
		return "", err
	}
	known := manifest.IsIndex(stated) || manifest.IsManifest(stated)
	if known && doc.MediaType != "" && doc.MediaType != stated {
		return "", fmt.Errorf("%w: the registry calls it %.100q, it says %.100q itself", oci.ErrManifest, stated, doc.MediaType)
	}
	if known {
		return stated, nil
	}
	if kind := doc.Kind(); manifest.IsIndex(kind) || manifest.IsManifest(kind) {
		return kind, nil
	}
	return "", fmt.Errorf("%w: %.100q", oci.ErrMediaType, doc.Kind())
}

// fetch reads the document that a descriptor names.
func (f *fetcher) fetch(ctx context.Context, d spec.Descriptor) ([]byte, error) {
	if raw, known := f.documents[d.Digest]; known {
		return raw, nil
	}
	if d.Size > f.Limits.DocumentBytes {
		return nil, fmt.Errorf("%w of %d bytes; the limit is %d", errTooLarge, d.Size, f.Limits.DocumentBytes)
	}
	path := "/blobs/"
	if manifest.IsIndex(d.MediaType) || manifest.IsManifest(d.MediaType) {
		path = "/manifests/"
	}
	raw, _, err := f.document(ctx, path+d.Digest.String())
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d", oci.ErrSizeMismatch, d.Digest, len(raw), d.Size)
	}
	if own := d.Digest.Algorithm().FromBytes(raw); own != d.Digest {
		return nil, fmt.Errorf("%w: the registry delivers %s for %s", oci.ErrDigestMismatch, own, d.Digest)
	}
	f.documents[d.Digest] = raw
	return raw, nil
}

// document reads a small answer whole, trying again if the connection breaks.
func (f *fetcher) document(ctx context.Context, path string) (raw []byte, header http.Header, err error) {
	err = f.retry(ctx, path, func() error {
		body, h, err := f.watchedGet(ctx, f.reference, path, http.Header{"Accept": {accepted}}, http.StatusOK)
		if err != nil {
			return err
		}
		defer body.Close()
		raw, err = io.ReadAll(io.LimitReader(body, f.Limits.DocumentBytes+1))
		if err != nil {
			return classify(err)
		}
		if int64(len(raw)) > f.Limits.DocumentBytes {
			return fmt.Errorf("%w of more than %d bytes", errTooLarge, f.Limits.DocumentBytes)
		}
		header = h.Header
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if f.total += int64(len(raw)); f.total > f.Limits.TotalBytes {
		return nil, nil, fmt.Errorf("%w: documents of more than %d bytes", oci.ErrLimit, f.Limits.TotalBytes)
	}
	return raw, header, nil
}
