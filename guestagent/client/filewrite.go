package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// writeChunk is how much file data goes into one message: large enough to be fast, small
// enough not to hold up the messages of other sessions.
const writeChunk = 512 << 10

// FileWriter streams a file into the guest. Nothing is certain before Close has returned
// nil. It is not safe for concurrent use.
type FileWriter struct {
	f      *File
	own    bool // Close closes the file
	s      *session
	closed bool
	err    error
}

// Writer starts writing the open file at offset off; a file opened for appending ignores
// the offset.
func (f *File) Writer(ctx context.Context, off uint64) (*FileWriter, error) {
	s, err := f.c.open(ctx, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSWrite{Handle: f.handle, Offset: off}})
	if err != nil {
		return nil, err
	}
	return &FileWriter{f: f, s: s}, nil
}

// OpenWriter creates or truncates a file, with the given permission bits if it is created
// (nil: 0666 under the guest's umask), and starts writing it.
func (c *Client) OpenWriter(ctx context.Context, path string, mode *uint32) (*FileWriter, error) {
	f, err := c.OpenFile(ctx, path, proto.FSOpenOptions{Write: true, Create: true, Truncate: true, Mode: mode})
	if err != nil {
		return nil, err
	}
	w, err := f.Writer(ctx, 0)
	if err != nil {
		f.closeQuietly()
		return nil, err
	}
	w.own = true
	return w, nil
}

// Write is WriteContext without a context.
func (w *FileWriter) Write(p []byte) (int, error) { return w.WriteContext(context.Background(), p) }

// WriteContext sends p. An error the guest reported in the meantime, such as a full disk,
// is returned and is final. So is the end of ctx in the middle of a write.
func (w *FileWriter) WriteContext(ctx context.Context, p []byte) (n int, err error) {
	if w.closed {
		return 0, ErrClosed
	}
	for n < len(p) {
		if err := w.failed(ctx); err != nil {
			return n, err
		}
		chunk := p[n:min(len(p), n+writeChunk)]
		if err := w.s.sendInput(ctx, proto.TypeFSData, chunk); err != nil {
			if early := w.failed(ctx); early != nil {
				err = early
			}
			w.err = err
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

// failed returns the guest's early answer, if it has come: before the end of the data it
// can only be an error.
func (w *FileWriter) failed(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	select {
	case <-w.s.done:
	default:
		return nil
	}
	if w.err = w.result(ctx); w.err == nil {
		w.err = fmt.Errorf("%w: write ended before its data", ErrProtocol)
	}
	return w.err
}

// result reads the terminal answer.
func (w *FileWriter) result(ctx context.Context) error {
	for {
		ev, err := w.s.recv(ctx)
		if err != nil {
			return endError(err)
		}
		if ev.typ == proto.TypeFSData {
			continue // the guest has no data to send here
		}
		_, err = ev.fsResult(w.f.path, proto.FSWrite{}, "")
		return err
	}
}

// ReadFrom sends all of r; it makes io.Copy use large messages.
func (w *FileWriter) ReadFrom(r io.Reader) (n int64, err error) {
	buf := make([]byte, writeChunk)
	for {
		m, err := io.ReadFull(r, buf)
		if m > 0 {
			sent, werr := w.Write(buf[:m])
			n += int64(sent)
			if werr != nil {
				return n, werr
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// Close ends the data, waits for the guest's answer, closes the file if OpenWriter opened
// it, and returns the first error. A second call returns [ErrClosed].
func (w *FileWriter) Close(ctx context.Context) error {
	if w.closed {
		return ErrClosed
	}
	w.closed = true
	err := w.finish(ctx)
	if err != nil {
		w.s.abandon()
	}
	if !w.own {
		return err
	}
	if err != nil {
		w.f.closeQuietly()
		return err
	}
	return w.f.Close(ctx)
}

func (w *FileWriter) finish(ctx context.Context) error {
	if err := w.failed(ctx); err != nil {
		// Still end the guest's write session: it keeps one open until told.
		_ = w.f.c.goodbye(w.sendEOF)
		return err
	}
	if err := w.sendEOF(ctx); err != nil {
		return err
	}
	return w.result(ctx)
}

func (w *FileWriter) sendEOF(ctx context.Context) error {
	return w.f.c.sendData(ctx, w.s.id, proto.TypeFSData, nil)
}

// WriteFile creates or replaces the content of a file; see OpenWriter for mode.
func (c *Client) WriteFile(ctx context.Context, path string, data []byte, mode *uint32) error {
	w, err := c.OpenWriter(ctx, path, mode)
	if err != nil {
		return err
	}
	_, err = w.WriteContext(ctx, data)
	return errors.Join(err, skipSame(w.Close(ctx), err))
}

// skipSame drops an error that repeats one already reported.
func skipSame(err, reported error) error {
	if reported != nil && errors.Is(err, reported) {
		return nil
	}
	return err
}
