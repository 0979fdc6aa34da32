package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
)

// Names of a transfer's files, as microsandbox 0.6.18 has them: what either began the
// other goes on with.
const (
	partSuffix     = ".part"
	downloadSuffix = ".download.lock"
	wholeSuffix    = ".tar.gz" // in layersDir, whatever the compression; only the other writes it
)

// remoteOrigin is an image in a registry. A layer is converted while it arrives. What
// arrives is also kept in a file until the layer is complete, so that a pull that was
// interrupted, in whatever way, goes on there.
type remoteOrigin struct {
	*Cache
	documents *manifest.Image
	reference ref.Reference
	remote    Remote
	report    func(oci.Event)
	resumed   []bool // by layer: the transfer began before this pull
}

func (r *remoteOrigin) image() *manifest.Image { return r.documents }

// open implements origin.
func (r *remoteOrigin) open(ctx context.Context, layer int) (io.ReadCloser, error) {
	l := r.documents.Layers[layer]
	path := r.partPath(l)
	held, err := acquire(ctx, filepath.Join(r.tmp(), safe(l.BlobDigest)+downloadSuffix))
	if err != nil {
		return nil, err
	}
	t := &transfer{layer: l, lock: held, progress: func(n int64) {
		r.report(oci.Event{Kind: oci.EventDownloadProgress, Layer: layer, BlobDigest: l.BlobDigest, Bytes: n, Total: l.Size})
	}, complete: func() {
		r.report(oci.Event{Kind: oci.EventDownloadComplete, Layer: layer, BlobDigest: l.BlobDigest, Bytes: l.Size})
	}}
	if err := t.openPart(path, filepath.Join(r.dir, layersDir, safe(l.BlobDigest)+wholeSuffix)); err != nil {
		held.release()
		return nil, err
	}
	r.resumed[layer] = t.kept > 0
	t.rest = r.remote.Blob(ctx, r.reference, l, t.kept)
	return t, nil
}

func (r *remoteOrigin) partPath(l oci.Layer) string {
	return filepath.Join(r.tmp(), safe(l.BlobDigest)+partSuffix)
}

// finish implements origin. A transfer that is of no use any more is forgotten, and one
// that filled the disk: others need the room. If what an earlier one left was damaged,
// everything is fetched anew.
func (r *remoteOrigin) finish(layer int, err error) bool {
	if err == nil || isClass(err, syscall.ENOSPC, oci.ErrDigestMismatch, oci.ErrSizeMismatch, oci.ErrCompression, oci.ErrLayer, oci.ErrLimit) {
		_ = os.Remove(r.partPath(r.documents.Layers[layer]))
	}
	return r.resumed[layer] && isClass(err, oci.ErrDigestMismatch, oci.ErrCompression, oci.ErrLayer)
}

func isClass(err error, classes ...error) bool {
	for _, class := range classes {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// transfer is the stream of a blob: first what is kept in a file, then the rest, which
// is added to the file.
type transfer struct {
	layer    oci.Layer
	lock     *lock
	part     *os.File
	kept     int64 // bytes of the file at the start
	off      int64
	rest     io.ReadCloser
	shown    int64
	progress func(int64)
	complete func()
}

// openPart opens the file of a transfer, which may be there already. whole is where
// microsandbox 0.6.18 leaves a transfer that is complete but not converted.
func (t *transfer) openPart(path, whole string) error {
	if err := os.Rename(whole, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		if t.kept = info.Size(); t.kept > t.layer.Size {
			t.kept = 0
			err = f.Truncate(0)
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.part = f
	return nil
}

// Read implements io.Reader.
func (t *transfer) Read(p []byte) (int, error) {
	if t.off < t.kept {
		n, err := t.part.ReadAt(p[:min(int64(len(p)), t.kept-t.off)], t.off)
		t.advance(n)
		if err == io.EOF {
			err = nil // the file is as long as it was
			if n == 0 {
				return 0, fmt.Errorf("%s: %w", t.part.Name(), io.ErrUnexpectedEOF)
			}
		}
		return n, err
	}
	n, err := t.rest.Read(p)
	if n > 0 {
		if _, err := t.part.WriteAt(p[:n], t.off); err != nil {
			return 0, err
		}
		t.advance(n)
	}
	if err == io.EOF && t.complete != nil {
		t.complete()
		t.complete = nil
	}
	return n, err
}

func (t *transfer) advance(n int) {
	if t.off += int64(n); t.off-t.shown >= progressStep || t.off == t.layer.Size && n > 0 {
		t.shown = t.off
		t.progress(t.off)
	}
}

// Close implements io.Closer.
func (t *transfer) Close() error {
	err := errors.Join(t.rest.Close(), t.part.Close())
	t.lock.release()
	return err
}
