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
// [ErrDamaged] and the cause of ctx.
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

// readAll checks all chunks; those in holes are not read.
func (c *Checkpoint) readAll(ctx context.Context) error {
	size := c.machine.header.MemorySize()
	buf := make([]byte, min(chunkSize, size))
	data := int64(0) // the first byte that may be data
	for i, want := range c.machine.sums {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		start := int64(i) * chunkSize
		end := min(start+chunkSize, size)
		if data < end {
			var err error
			if data, err = nextData(c.memory, start, size); err != nil {
				return err
			}
		}
		b := zeros[:end-start]
		if data < end {
			b = buf[:end-start]
			if _, err := io.ReadFull(io.NewSectionReader(c.memory, start, end-start), b); err != nil {
				return fmt.Errorf("%w: read memory at %d: %w", ErrDamaged, start, err)
			}
		}
		if checksum(b) != want {
			return fmt.Errorf("%w: its memory is not what was saved, between %d and %d", ErrDamaged, start, end)
		}
	}
	return nil
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
