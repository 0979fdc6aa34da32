package cache

import (
	"io"
	"os"
)

// writebackStep is how much may be written before the kernel is asked to begin with it.
const writebackStep = 8 << 20

// eagerFile has the kernel write to disk while the file is still being filled.
type eagerFile struct {
	*os.File
	begin, end int64 // written, but not asked for yet
}

// WriteAt implements io.WriterAt.
func (e *eagerFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := e.File.WriteAt(p, off)
	if off != e.end {
		e.begin = off
	}
	if e.end = off + int64(n); e.end-e.begin >= writebackStep {
		startWriteback(e.File, e.begin, e.end-e.begin)
		e.begin = e.end
	}
	return n, err
}

// windows reads a file through a few buffers: trees are read in the order in which they
// lie, a few bytes at a time. It is not safe for concurrent use.
type windows struct {
	file  io.ReaderAt
	spans [windowCount]window
	next  int // the one to replace
}

const (
	windowCount = 4
	windowSize  = 128 << 10
)

type window struct {
	off  int64
	data []byte
	err  error // at the end of data
}

// ReadAt implements io.ReaderAt.
func (w *windows) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, os.ErrInvalid
	}
	for n < len(p) {
		span := w.span(off)
		inside := int(off - span.off)
		if inside >= len(span.data) {
			return n, span.err
		}
		got := copy(p[n:], span.data[inside:])
		n += got
		off += int64(got)
	}
	return n, nil
}

// span returns the window that off lies in.
func (w *windows) span(off int64) *window {
	begin := off &^ (windowSize - 1)
	for i := range w.spans {
		if s := &w.spans[i]; s.data != nil && s.off == begin {
			return s
		}
	}
	s := &w.spans[w.next]
	w.next = (w.next + 1) % windowCount
	if s.data == nil {
		s.data = make([]byte, windowSize)
	}
	n, err := w.file.ReadAt(s.data[:windowSize], begin)
	if n < windowSize && err == nil {
		err = io.ErrUnexpectedEOF
	}
	s.off, s.data, s.err = begin, s.data[:n], err
	return s
}
