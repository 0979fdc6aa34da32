package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

const spoolBuffer = 256 << 10

// Spool is a temporary file without a name that holds the content of the files of
// layers, so that memory does not grow with them. Long runs of zeros become holes.
// One goroutine may append; readers must wait for Flush.
type Spool struct {
	file *os.File
	buf  []byte
	off  int64 // file offset that buf will be written to
}

// NewSpool creates a spool in directory dir. The file vanishes with the process, even
// if that is killed.
func NewSpool(dir string) (*Spool, error) {
	f, err := os.CreateTemp(dir, "layer-*.spool")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Spool{file: f, buf: make([]byte, 0, spoolBuffer)}, nil
}

// Append copies exactly n bytes from r and returns the offset they begin at. A source
// that ends early is io.ErrUnexpectedEOF.
func (s *Spool) Append(r io.Reader, n int64) (int64, error) {
	start := s.off + int64(len(s.buf))
	for n > 0 {
		room := s.buf[len(s.buf):min(int64(cap(s.buf)), int64(len(s.buf))+n)]
		got, err := io.ReadFull(r, room)
		s.buf = s.buf[:len(s.buf)+got]
		n -= int64(got)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if len(s.buf) == cap(s.buf) {
			if err := s.spill(); err != nil {
				return 0, err
			}
		}
	}
	return start, nil
}

var zeroBuffer [spoolBuffer]byte

func (s *Spool) spill() error {
	if !bytes.Equal(s.buf, zeroBuffer[:len(s.buf)]) {
		if _, err := s.file.WriteAt(s.buf, s.off); err != nil {
			return fmt.Errorf("%w: %w", ErrSpool, err)
		}
	}
	s.off += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// Flush makes everything appended so far readable.
func (s *Spool) Flush() error {
	if err := s.spill(); err != nil {
		return err
	}
	if err := s.file.Truncate(s.off); err != nil {
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
	return nil
}

// Size returns how many bytes were appended.
func (s *Spool) Size() int64 { return s.off + int64(len(s.buf)) }

// ReadAt reads flushed bytes; it is safe for concurrent use.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) { return s.file.ReadAt(p, off) }

// Close frees the disk space.
func (s *Spool) Close() error { return s.file.Close() }
