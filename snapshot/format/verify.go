package format

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Verify reads all of the memory and compares it with its checksums. It fails with
// [ErrDamaged], also for a passing checkpoint, which has none, and the cause of ctx.
func (c *Checkpoint) Verify(ctx context.Context) error {
	_, err := c.verify(ctx)
	return err
}

// Seal is Verify that also records at dir, where the checkpoint was opened, that the
// memory is right, so that the next Open need not read it: for one that was just copied
// or unpacked.
func (c *Checkpoint) Seal(ctx context.Context) (err error) {
	dir := c.root.Name()
	defer wrap(&err, "seal", dir)
	s, err := c.verify(ctx)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, sealName), seal(s, c.machine.digest), 0o600)
}

// verify returns the state of the file in which it was right.
func (c *Checkpoint) verify(ctx context.Context) (fileState, error) {
	if c.machine.layer != nil {
		return fileState{}, fmt.Errorf("%w: it was made for copies at once, and was copied or changed since", ErrDamaged)
	}
	c.reading.Lock() // the position of the file
	defer c.reading.Unlock()
	before, err := stateOf(c.memory)
	if err != nil {
		return fileState{}, err
	}
	if err := c.readAll(ctx); err != nil {
		return fileState{}, err
	}
	after, err := stateOf(c.memory)
	if err == nil && after != before {
		err = fmt.Errorf("%w: its memory changed while it was read", ErrDamaged)
	}
	return after, err
}

// readAll checks all chunks.
func (c *Checkpoint) readAll(ctx context.Context) error {
	chunks := newChunkReader(c.memory, c.machine.header.MemorySize())
	for i, want := range c.machine.sums {
		b, err := chunks.read(ctx, int64(i))
		if err != nil {
			return err
		}
		if checksum(b) != want {
			start := int64(i) * chunkSize
			return fmt.Errorf("%w: its memory is not what was saved, between %d and %d", ErrDamaged, start, start+int64(len(b)))
		}
	}
	return nil
}

// chunkReader reads chunks of a memory of size bytes in ascending order; those in holes are not
// read.
type chunkReader struct {
	f          *os.File
	size, data int64 // data is where the first byte may be that is none of a hole
	buf        []byte
}

func newChunkReader(f *os.File, size int64) *chunkReader {
	return &chunkReader{f: f, size: size, buf: make([]byte, min(chunkSize, size))}
}

// read returns chunk i, until the next call.
func (r *chunkReader) read(ctx context.Context, i int64) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	start := i * chunkSize
	end := min(start+chunkSize, r.size)
	if r.data < end {
		var err error
		if r.data, err = nextData(r.f, start, r.size); err != nil {
			return nil, err
		}
	}
	if r.data >= end {
		return zeros[:end-start], nil
	}
	b := r.buf[:end-start]
	if _, err := io.ReadFull(io.NewSectionReader(r.f, start, end-start), b); err != nil {
		return nil, fmt.Errorf("%w: read memory at %d: %w", ErrDamaged, start, err)
	}
	return b, nil
}

// nextData is where data begins in f at or after offset; where holes cannot be told,
// all is data.
func nextData(f *os.File, offset, size int64) (int64, error) {
	e, err := sparse.Next(f, offset, size)
	switch {
	case errors.Is(err, sparse.ErrUnsupported):
		return offset, nil
	case e.Length == 0:
		return size, err
	}
	return e.Offset, err
}
