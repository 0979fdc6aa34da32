package format

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Based is the Memory of a machine that was restored from a checkpoint: its regions are
// those of Base and were mapped privately from Base's file. What nobody has written since
// is taken from that file, shared with it where the file system can, and not even loaded
// to be looked at.
type Based struct {
	Memory
	Base *Checkpoint
}

// part is a run of a region in which it may differ from the base.
type part struct {
	Range
	zero bool // nothing but zeros
}

// copyTo copies the memory to an empty file.
func (c *Checkpoint) copyTo(ctx context.Context, f *os.File) error {
	c.reading.Lock() // the position of its file
	defer c.reading.Unlock()
	return sparse.Copy(ctx, f, c.memory)
}

// writeBased is writeMemory of what has a base.
func writeBased(ctx context.Context, f *os.File, h Header, mem Based) (func(context.Context) ([]uint32, error), error) {
	base := mem.Base
	if !slices.Equal(h.Regions, base.machine.header.Regions) {
		return nil, fmt.Errorf("%w: its base has another memory: %s", ErrHeader, regions(base.machine.header.Regions))
	}
	w := &overlay{ctx: ctx, f: f, sums: slices.Clone(base.machine.sums)}
	p := newPages(base.memory)
	defer p.close()
	for i := range h.Regions {
		b, err := regionOf(mem, h, i)
		if err != nil {
			return nil, err
		}
		for _, r := range p.changed(b, base.offsets[i]) {
			if err := w.part(b, base.offsets[i], r); err != nil {
				return nil, err
			}
		}
	}
	return func(ctx context.Context) ([]uint32, error) { return w.sums, w.finish(ctx, h.MemorySize()) }, nil
}

// overlay writes over the copy of a base.
type overlay struct {
	ctx     context.Context
	f       *os.File
	sums    []uint32
	touched []int64 // chunks, ascending
}

// part writes a part of the region b, which begins at offset in the file.
func (o *overlay) part(b []byte, offset int64, r part) error {
	if r.zero {
		return o.clear(Range{Offset: offset + r.Offset, Length: r.Length})
	}
	for at := r.Offset; at < r.End(); {
		n := min(chunkSize, r.End()-at)
		for piece, zero := range pageRuns(b[at : at+n]) {
			run := Range{Offset: offset + at, Length: int64(len(piece))}
			if zero {
				piece = nil
			}
			if err := o.write(piece, run); err != nil {
				return err
			}
			at += run.Length
		}
	}
	return nil
}

// clear makes r zeros, where it is not a hole already: most of it is, and is not looked at.
func (o *overlay) clear(r Range) error {
	for at := r.Offset; ; {
		data, err := sparse.Next(o.f, at, r.End())
		switch {
		case errors.Is(err, sparse.ErrUnsupported):
			return o.write(nil, Range{Offset: at, Length: r.End() - at})
		case err != nil:
			return err
		case data.Length == 0:
			return nil
		}
		if err := o.write(nil, Range{Offset: data.Offset, Length: data.Length}); err != nil {
			return err
		}
		at = data.End()
	}
}

// write puts b, or zeros if that is nil, where r says.
func (o *overlay) write(b []byte, r Range) (err error) {
	if o.ctx.Err() != nil {
		return fmt.Errorf("write memory: %w", context.Cause(o.ctx))
	}
	if b == nil {
		err = punch(o.f, r)
	} else {
		_, err = o.f.WriteAt(b, r.Offset)
	}
	for chunk := r.Offset / chunkSize; chunk*chunkSize < r.End(); chunk++ {
		if n := len(o.touched); n == 0 || o.touched[n-1] < chunk {
			o.touched = append(o.touched, chunk)
		}
	}
	return err
}

// finish computes the checksums of the chunks that were touched.
func (o *overlay) finish(ctx context.Context, size int64) error {
	buf := make([]byte, min(chunkSize, size))
	for _, chunk := range o.touched {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(chunkSize, size-chunk*chunkSize)]
		if _, err := io.ReadFull(io.NewSectionReader(o.f, chunk*chunkSize, int64(len(b))), b); err != nil {
			return err
		}
		o.sums[chunk] = checksum(b)
	}
	return nil
}

func writeZeros(f *os.File, r Range) error {
	for at := r.Offset; at < r.End(); {
		n, err := f.WriteAt(zeros[:min(chunkSize, r.End()-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
