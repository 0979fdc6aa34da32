package blob

import (
	"io"
	"sync"
)

// Buffers of an Ahead: how many and how large. They bound its memory.
const (
	aheadBuffers = 4
	aheadBuffer  = 256 << 10
)

// Ahead reads a stream in a goroutine of its own, so that the source's work and the
// reader's run side by side.
type Ahead struct {
	full, free chan []byte
	stop       chan struct{}
	once       sync.Once // guards stop
	wait       sync.WaitGroup
	buf        []byte // being read
	rest       []byte // of buf
	err        error  // of the source, valid once full is closed
}

// NewAhead starts to read r. Nobody else may use r before the result is closed.
func NewAhead(r io.Reader) *Ahead {
	a := &Ahead{full: make(chan []byte, aheadBuffers), free: make(chan []byte, aheadBuffers), stop: make(chan struct{})}
	for range aheadBuffers {
		a.free <- nil
	}
	a.wait.Go(func() { a.run(r) })
	return a
}

func (a *Ahead) run(r io.Reader) {
	defer close(a.full)
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.stop:
			return
		}
		if buf == nil {
			buf = make([]byte, aheadBuffer)
		}
		n, err := fill(r, buf[:aheadBuffer])
		if n > 0 {
			a.full <- buf[:n] // there is room for all buffers
		}
		if err != nil {
			a.err = err
			return
		}
	}
}

// fill reads until p is full or the source has an error.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var got int
		got, err = r.Read(p[n:])
		n += got
	}
	return n, err
}

// Read implements io.Reader. The source's error comes behind all that it delivered.
func (a *Ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.buf != nil {
			a.free <- a.buf
			a.buf = nil
		}
		buf, ok := <-a.full
		if !ok {
			if a.err == nil {
				return 0, io.ErrClosedPipe
			}
			return 0, a.err
		}
		a.buf, a.rest = buf, buf
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close stops reading and waits until the source is left alone; a source that blocks
// must be woken by other means first. What was not read yet is lost. It is idempotent.
func (a *Ahead) Close() error {
	a.once.Do(func() { close(a.stop) })
	a.wait.Wait()
	return nil
}
