package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/ref"
)

// progress is how many bytes an attempt must deliver to count as a success: attempts are
// limited in a row only, but a server must not keep us for a byte at a time.
const progress = 64 << 10

// Blob returns a layer's blob from byte offset on. The stream asks for the rest when a
// connection breaks, stalls or ends early, up to Config.Retry.Attempts times in a row; it
// delivers as many bytes as the layer's size says and no more. Nothing is verified but
// that sizes fit. The first request is sent by the first Read. ctx ends the stream.
func (c *Client) Blob(ctx context.Context, r ref.Reference, l oci.Layer, offset int64) io.ReadCloser {
	return &blob{client: c, ctx: ctx, reference: r, layer: l, offset: offset, retry: backoff{Retry: c.config.Retry}}
}

type blob struct {
	client    *Client
	ctx       context.Context
	reference ref.Reference
	layer     oci.Layer
	offset    int64 // of the next byte
	body      io.ReadCloser
	got       int64 // bytes of this body
	noRange   bool  // the registry serves blobs from their start only
	retry     backoff
	err       error // for good
}

// Read implements io.Reader.
func (b *blob) Read(p []byte) (int, error) {
	for b.err == nil {
		if b.offset >= b.layer.Size {
			return 0, io.EOF
		}
		n, err := b.attempt(p)
		if n > 0 {
			return n, nil
		}
		b.drop()
		if err == nil {
			continue
		}
		if final := b.retry.next(b.ctx, err); final != nil {
			b.err = fmt.Errorf("blob %s at byte %d of %d: %w", b.layer.BlobDigest, b.offset, b.layer.Size, final)
			break
		}
		b.client.log.Info("resuming transfer", "blob", b.layer.BlobDigest, "at", b.offset, "of", b.layer.Size, "attempt", b.retry.failed+1, "error", err)
	}
	return 0, b.err
}

// attempt reads what comes next, on the open body or a new one. With no bytes it returns
// why.
func (b *blob) attempt(p []byte) (int, error) {
	if b.body == nil {
		if err := b.open(); err != nil {
			return 0, err
		}
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.layer.Size-b.offset)])
	b.offset += int64(n)
	if b.got += int64(n); b.got >= progress {
		b.retry.failed = 0
	}
	if n > 0 {
		return n, nil // an error comes again
	}
	if err == io.EOF {
		err = fmt.Errorf("%w: the transfer ended early", oci.ErrRegistry)
	}
	return 0, classify(err)
}

// open asks for the rest of the blob.
func (b *blob) open() error {
	header := http.Header{}
	if b.offset > 0 && !b.noRange {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.offset, b.layer.Size-1))
	}
	body, response, err := b.client.watchedGet(b.ctx, b.reference, "/blobs/"+b.layer.BlobDigest.String(), header, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		var status *StatusError
		if errors.As(err, &status) && status.Status == http.StatusRequestedRangeNotSatisfiable && !b.noRange {
			b.noRange = true
			return b.open()
		}
		return err
	}
	b.body, b.got = body, 0
	if err := b.align(response); err != nil {
		b.drop()
		return err
	}
	return nil
}

// align makes the body begin at offset: a server may ignore that only a part is wanted.
func (b *blob) align(r *http.Response) error {
	first, whole := int64(0), r.ContentLength
	if r.StatusCode == http.StatusPartialContent {
		var err error
		if first, whole, err = contentRange(r.Header.Get("Content-Range")); err != nil {
			return err
		}
	}
	switch {
	case whole >= 0 && whole != b.layer.Size:
		return fmt.Errorf("%w: the registry has %d bytes for %s, not %d", oci.ErrSizeMismatch, whole, b.layer.BlobDigest, b.layer.Size)
	case first > b.offset:
		return fmt.Errorf("%w: asked for bytes from %d, got those from %d", oci.ErrRegistry, b.offset, first)
	}
	if _, err := io.CopyN(io.Discard, b.body, b.offset-first); err != nil {
		return classify(err)
	}
	return nil
}

// contentRange reads "bytes FIRST-LAST/WHOLE"; whole is -1 if it is not stated.
func contentRange(s string) (first, whole int64, err error) {
	broken := fmt.Errorf("%w: Content-Range %.80q", oci.ErrRegistry, s)
	span, length, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	begin, _, ranged := strings.Cut(span, "-")
	if !strings.HasPrefix(s, "bytes ") || !ok || !ranged {
		return 0, 0, broken
	}
	if first, err = strconv.ParseInt(begin, 10, 64); err != nil || first < 0 {
		return 0, 0, broken
	}
	if length == "*" {
		return first, -1, nil
	}
	if whole, err = strconv.ParseInt(length, 10, 64); err != nil || whole < 0 {
		return 0, 0, broken
	}
	return first, whole, nil
}

func (b *blob) drop() {
	if b.body != nil {
		_ = b.body.Close()
		b.body = nil
	}
}

// Close implements io.Closer.
func (b *blob) Close() error {
	b.drop()
	if b.err == nil {
		b.err = errors.New("blob is closed")
	}
	return nil
}
