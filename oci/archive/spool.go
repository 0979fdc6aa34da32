package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gomsb/gomsb/oci/blob"
)

// File is an archive at rest.
type File struct {
	io.ReaderAt
	Size  int64
	close func() error
}

// Close frees the copy that Stage made, if it made one.
func (f *File) Close() error { return f.close() }

// Stage makes the archive in r readable at any offset. A regular file that is not
// compressed is used in place, from its start; anything else is decompressed and
// copied to a file without a name in directory dir. Errors wrap oci.ErrLimit and
// oci.ErrCompression or are those of r and of the disk.
func Stage(ctx context.Context, dir string, r io.Reader, limits blob.Limits) (*File, error) {
	if f, ok := r.(*os.File); ok {
		if in, err := inPlace(f); in != nil || err != nil {
			return in, err
		}
	}
	plain, err := blob.Decompress(ctxReader{ctx, r}, limits)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	tmp, err := os.CreateTemp(dir, "archive-*.spool")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(tmp.Name()); err != nil {
		return nil, errors.Join(err, tmp.Close())
	}
	size, err := io.CopyBuffer(writeOnly{tmp}, plain, make([]byte, 256<<10))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("archive after %d bytes: %w", size, err), tmp.Close())
	}
	return &File{ReaderAt: tmp, Size: size, close: tmp.Close}, nil
}

// inPlace returns nil if f must be copied.
func inPlace(f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil
	}
	var head [blob.MagicSize]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if blob.Detect(head[:n]) != blob.None {
		// Reading goes on where the file stands; begin at its start as in place.
		_, err := f.Seek(0, io.SeekStart)
		return nil, err
	}
	return &File{ReaderAt: f, Size: info.Size(), close: func() error { return nil }}, nil
}

// writeOnly hides ReadFrom, which would ignore the buffer of CopyBuffer.
type writeOnly struct{ io.Writer }

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
