package format

import (
	"context"
	"errors"
	"fmt"
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

// writeBased is writeMemory of what has a base, of which f is a copy.
func writeBased(ctx context.Context, f *os.File, h Header, mem Based) (func(context.Context) ([]uint32, error), error) {
	s := &resummer{f: f, size: h.MemorySize(), sums: slices.Clone(mem.Base.machine.sums)}
	if s.sums == nil {
		s.sums = make([]uint32, chunks(s.size))
		s.touch(Range{Length: s.size})
	}
	w := &overlay{ctx: ctx, f: f, under: f, note: s.touch}
	if err := w.regions(h, mem, mem.Base.memory, mem.Base.whole()); err != nil {
		return nil, err
	}
	return s.finish, nil
}

// overlay writes what differs from a base over it.
type overlay struct {
	ctx   context.Context
	f     *os.File
	under *os.File    // what is under it: where that has holes, zeros need not be written
	empty bool        // f has no data, and is not a copy of the base
	note  func(Range) // is told of what is written, ascending
}

// regions writes what of mem is in none of the files at the same offset.
func (o *overlay) regions(h Header, mem Based, files ...*os.File) error {
	base := mem.Base
	if !slices.Equal(h.Regions, base.machine.header.Regions) {
		return fmt.Errorf("%w: its base has another memory: %s", ErrHeader, regions(base.machine.header.Regions))
	}
	p := newPages(files...)
	defer p.close()
	for i := range h.Regions {
		b, err := regionOf(mem, h, i)
		if err != nil {
			return err
		}
		parts := p.changed(b, base.offsets[i])
		if o.empty {
			parts = joinNear(parts)
		}
		for _, r := range parts {
			if err := o.part(b, base.offsets[i], r); err != nil {
				return err
			}
		}
	}
	return nil
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
		data, err := sparse.Next(o.under, at, r.End())
		switch {
		case errors.Is(err, sparse.ErrUnsupported):
			return o.write(nil, Range{Offset: at, Length: r.End() - at})
		case err != nil:
			return err
		case data.Length == 0:
			return nil
		}
		whole := Range{Offset: data.Offset - data.Offset%PageSize}
		whole.Length = (data.End() - whole.Offset + PageSize - 1) / PageSize * PageSize
		if err := o.write(nil, whole); err != nil {
			return err
		}
		if at = whole.End(); at >= r.End() {
			return nil
		}
	}
}

// write puts b, or zeros if that is nil, where r says.
func (o *overlay) write(b []byte, r Range) (err error) {
	if o.ctx.Err() != nil {
		return fmt.Errorf("write memory: %w", context.Cause(o.ctx))
	}
	switch {
	case b != nil:
		_, err = o.f.WriteAt(b, r.Offset)
	case !o.empty:
		err = punch(o.f, r)
	}
	o.note(r)
	return err
}

// resummer computes checksums of chunks anew.
type resummer struct {
	f       *os.File
	size    int64
	sums    []uint32
	touched []int64 // chunks, ascending
}

// touch notes what was written; it is told so in ascending order.
func (s *resummer) touch(r Range) {
	for chunk := r.Offset / chunkSize; chunk*chunkSize < r.End(); chunk++ {
		if n := len(s.touched); n == 0 || s.touched[n-1] < chunk {
			s.touched = append(s.touched, chunk)
		}
	}
}

// finish returns the checksums of all chunks.
func (s *resummer) finish(ctx context.Context) ([]uint32, error) {
	chunks := newChunkReader(s.f, s.size)
	for _, i := range s.touched {
		b, err := chunks.read(ctx, i)
		if err != nil {
			return nil, err
		}
		s.sums[i] = checksum(b)
	}
	return s.sums, nil
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
