package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// File is an open file or directory in the guest. The guest closes it when the connection
// ends.
type File struct {
	c      *Client
	path   string
	handle uint64
}

// OpenFile opens a file.
func (c *Client) OpenFile(ctx context.Context, path string, options proto.FSOpenOptions) (*File, error) {
	return c.openHandle(ctx, path, proto.FSOpenFile{Path: path, Options: options})
}

// OpenDir opens a directory for ReadDir.
func (c *Client) OpenDir(ctx context.Context, path string) (*File, error) {
	return c.openHandle(ctx, path, proto.FSOpenDir{Path: path})
}

func (c *Client) openHandle(ctx context.Context, path string, op proto.FSOp) (*File, error) {
	s, err := c.open(ctx, proto.TypeFSRequest, proto.FSRequest{Op: op})
	if err != nil {
		return nil, err
	}
	ev, err := s.recv(ctx)
	if err != nil {
		s.abandon()
		return nil, endError(err)
	}
	r, err := ev.fsResult(path, op, proto.ResultHandle)
	if err != nil {
		return nil, err
	}
	return &File{c: c, path: path, handle: r.Handle}, nil
}

// Handle returns the guest's number for the open file.
func (f *File) Handle() uint64 { return f.handle }

// Close closes the handle. Closing twice is an error of the guest's.
func (f *File) Close(ctx context.Context) error {
	return f.c.fsDo(ctx, f.path, proto.FSCloseHandle{Handle: f.handle})
}

// closeQuietly closes the handle after another error, or without a caller's context.
func (f *File) closeQuietly() {
	_ = f.c.goodbye(f.Close) // the guest closes it with the connection at the latest
}

// Stat returns the metadata of the open file.
func (f *File) Stat(ctx context.Context) (Entry, error) {
	r, err := f.c.fsCall(ctx, f.path, proto.FSFStat{Handle: f.handle}, proto.ResultStat)
	if err != nil {
		return Entry{}, err
	}
	return r.Entry, nil
}

// SetStat changes attributes of the open file.
func (f *File) SetStat(ctx context.Context, attrs proto.FSAttrs) error {
	return f.c.fsDo(ctx, f.path, proto.FSFSetStat{Handle: f.handle, Attrs: attrs})
}

// ReadDir returns the next entries of a directory handle, at most limit (0: the guest's
// choice); none at the end.
func (f *File) ReadDir(ctx context.Context, limit uint32) ([]Entry, error) {
	op := proto.FSReadDir{Handle: f.handle}
	if limit > 0 {
		op.Limit = &limit
	}
	r, err := f.c.fsCall(ctx, f.path, op, proto.ResultList)
	if err != nil {
		return nil, err
	}
	return r.Entries, nil
}

// ReadAt reads into p from off, across as many messages as it takes. It returns io.EOF
// with fewer bytes than len(p) only at the end of the file.
func (f *File) ReadAt(ctx context.Context, p []byte, off uint64) (n int, err error) {
	r := f.Reader(off)
	for n < len(p) {
		b, err := r.next(ctx, len(p)-n)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b)
	}
	return n, nil
}

// FileReader streams a file from the guest. It asks for a piece at a time, each small
// enough for the session buffer, so a slow reader does not hold up other sessions. It is
// not safe for concurrent use.
type FileReader struct {
	f     *File
	own   bool // Close closes the file
	off   uint64
	s     *session
	asked uint64 // bytes of the current piece not received yet
	eof   bool
	rest  []byte // received, not yet taken by Read
}

// Reader returns a reader of the file from offset off.
func (f *File) Reader(off uint64) *FileReader { return &FileReader{f: f, off: off} }

// OpenReader opens a file for streaming; Close the reader when done.
func (c *Client) OpenReader(ctx context.Context, path string) (*FileReader, error) {
	f, err := c.OpenFile(ctx, path, proto.FSOpenOptions{Read: true})
	if err != nil {
		return nil, err
	}
	return &FileReader{f: f, own: true}, nil
}

// Recv returns the next bytes of the file, at least one; io.EOF at its end. The slice is
// the caller's.
func (r *FileReader) Recv(ctx context.Context) ([]byte, error) {
	if len(r.rest) > 0 {
		b := r.rest
		r.rest = nil
		return b, nil
	}
	return r.next(ctx, r.f.c.opts.SessionBuffer/2)
}

// next returns the next data message, asking for up to want bytes if none is on its way.
func (r *FileReader) next(ctx context.Context, want int) ([]byte, error) {
	for !r.eof {
		if r.s == nil {
			if err := r.ask(ctx, want); err != nil {
				return nil, err
			}
		}
		ev, err := r.s.recv(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.s = nil
			}
			return nil, endError(err)
		}
		if ev.typ == proto.TypeFSData {
			if uint64(len(ev.body)) > r.asked {
				r.abandon()
				return nil, fmt.Errorf("%w: more data than asked for", ErrProtocol)
			}
			if len(ev.body) == 0 {
				continue
			}
			r.asked -= uint64(len(ev.body))
			r.off += uint64(len(ev.body))
			return ev.body, nil
		}
		r.s = nil
		if _, err := ev.fsResult(r.f.path, proto.FSRead{}, ""); err != nil {
			return nil, err
		}
		r.eof = r.asked > 0 // the guest reads on until it has all or the file ends
	}
	return nil, io.EOF
}

func (r *FileReader) ask(ctx context.Context, want int) error {
	n := uint64(max(1, min(want, proto.ChunkSize, r.f.c.opts.SessionBuffer/2)))
	op := proto.FSRead{Handle: r.f.handle, Offset: r.off, Len: &n}
	s, err := r.f.c.open(ctx, proto.TypeFSRequest, proto.FSRequest{Op: op})
	if err != nil {
		return err
	}
	r.s, r.asked = s, n
	return nil
}

func (r *FileReader) abandon() {
	if r.s != nil {
		r.s.abandon()
		r.s = nil
	}
}

// Read is io.Reader without a context; it ends with the connection.
func (r *FileReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := r.Recv(context.Background())
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	r.rest = b[n:]
	return n, nil
}

// CopyTo writes the rest of the file to w and returns how many bytes it wrote. ctx is
// checked between messages and ends waiting ones.
func (r *FileReader) CopyTo(ctx context.Context, w io.Writer) (n int64, err error) {
	for {
		b, err := r.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(b)
		n += int64(m)
		if err != nil {
			return n, err
		}
		if err := ctx.Err(); err != nil {
			return n, err
		}
	}
}

// WriteTo is CopyTo without a context.
func (r *FileReader) WriteTo(w io.Writer) (int64, error) { return r.CopyTo(context.Background(), w) }

// Close ends the stream, and closes the file if OpenReader opened it. It may be called
// more than once.
func (r *FileReader) Close() error {
	r.abandon()
	r.eof, r.rest = true, nil
	if r.own {
		r.own = false
		return r.f.c.goodbye(r.f.Close)
	}
	return nil
}

// ReadFile returns the content of a file of at most Options.MaxCollect bytes, else
// [ErrTooLarge]. Memory grows with what arrives, whatever size the guest claims.
func (c *Client) ReadFile(ctx context.Context, path string) ([]byte, error) {
	r, err := c.OpenReader(ctx, path)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	budget := c.opts.MaxCollect
	if _, err := r.CopyTo(ctx, bounded{&buf, &budget}); err != nil {
		r.abandon()
		r.f.closeQuietly()
		return nil, err
	}
	if err := r.f.Close(ctx); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
