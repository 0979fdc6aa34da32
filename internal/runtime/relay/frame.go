package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// frame is one frame as received, length field included. It is shared by reference count
// because the log reads it after the client's queue has it.
type frame struct {
	buf   []byte
	class int // index of the pool it returns to; -1 for none
	refs  atomic.Int32
}

func (f *frame) id() uint32         { return binary.BigEndian.Uint32(f.buf[4:]) }
func (f *frame) flags() proto.Flags { return proto.Flags(f.buf[8]) }
func (f *frame) body() []byte       { return f.buf[proto.LengthSize+proto.MinFrame:] }

// framePool recycles buffers of a few sizes; larger ones are left to the collector.
type framePool struct{ classes [3]sync.Pool }

var classSize = [3]int{1 << 10, 16 << 10, 128 << 10}

// get returns a frame of size bytes with one reference.
func (p *framePool) get(size int) *frame {
	for class, limit := range classSize {
		if size > limit {
			continue
		}
		f, ok := p.classes[class].Get().(*frame)
		if !ok {
			f = &frame{buf: make([]byte, limit), class: class}
		}
		f.buf = f.buf[:size]
		f.refs.Store(1)
		return f
	}
	f := &frame{buf: make([]byte, size), class: -1}
	f.refs.Store(1)
	return f
}

// release gives up one reference.
func (p *framePool) release(f *frame) {
	if f.refs.Add(-1) == 0 && f.class >= 0 {
		f.buf = f.buf[:cap(f.buf)]
		p.classes[f.class].Put(f)
	}
}

// frameReader cuts frames from a stream. Small frames cost no system call of their own,
// large ones are read straight into their buffer.
type frameReader struct {
	r    *bufio.Reader
	pool *framePool
}

// next returns the next frame, which the caller releases. It returns io.EOF between two
// frames, io.ErrUnexpectedEOF inside one, and proto.ErrFrame for a bad length.
func (r *frameReader) next() (*frame, error) {
	head, err := r.r.Peek(proto.LengthSize)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	switch {
	case n < proto.MinFrame:
		return nil, fmt.Errorf("%w: length field is %d", proto.ErrFrameTooShort, n)
	case n > proto.MaxFrame:
		return nil, fmt.Errorf("%w: length field is %d", proto.ErrFrameTooLarge, n)
	}
	f := r.pool.get(proto.LengthSize + int(n))
	if _, err := io.ReadFull(r.r, f.buf); err != nil {
		r.pool.release(f)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return f, nil
}
