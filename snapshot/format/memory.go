package format

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
)

// Memory is the RAM of a paused machine. Nothing may write to it during a capture.
type Memory interface {
	// Region is the host's view of region i of the header, of exactly its size.
	Region(i int) []byte
}

// Slices is a Memory whose regions are these.
type Slices [][]byte

// Region returns slice i.
func (s Slices) Region(i int) []byte { return s[i] }

// writeMemory writes all regions to the empty file f, pages of zeros as holes; f is a copy of
// the base's if there is one. It returns what tells the checksums of the chunks, for which
// nothing is looked at but f. Without summed there are none, and the time for them is spared.
func writeMemory(ctx context.Context, f *os.File, h Header, mem Memory, summed bool) (sums func(context.Context) ([]uint32, error), err error) {
	if based, ok := mem.(Based); ok {
		return writeBased(ctx, f, h, based)
	}
	size := h.MemorySize()
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	w := &memoryWriter{ctx: ctx, f: f}
	if summed {
		w.sums = &summer{sums: make([]uint32, 0, chunks(size))}
	}
	p := newPages()
	defer p.close()
	for i := range h.Regions {
		b, err := regionOf(mem, h, i)
		if err != nil {
			return nil, err
		}
		if err := w.region(b, p.written(b)); err != nil {
			return nil, err
		}
	}
	all := w.sums.finish()
	return func(context.Context) ([]uint32, error) { return all, nil }, nil
}

// regionOf is region i of a memory, which must have the size that the header says.
func regionOf(mem Memory, h Header, i int) ([]byte, error) {
	b := mem.Region(i)
	if uint64(len(b)) != h.Regions[i].Size {
		return nil, fmt.Errorf("%w: region %d has %d bytes, the header says %d", ErrHeader, i, len(b), h.Regions[i].Size)
	}
	return b, nil
}

// pageRuns cuts whole pages, at most a chunk, into runs of zero pages and runs of others.
func pageRuns(b []byte) iter.Seq2[[]byte, bool] {
	return func(yield func(run []byte, zero bool) bool) {
		for len(b) > 0 {
			zero, n := isZero(b[:PageSize]), PageSize
			for n < len(b) && isZero(b[n:n+PageSize]) == zero {
				n += PageSize
			}
			if !yield(b[:n], zero) {
				return
			}
			b = b[n:]
		}
	}
}

// memoryWriter appends to a file that has its final size and no data.
type memoryWriter struct {
	ctx  context.Context
	f    io.WriterAt
	at   int64
	sums *summer // nil: nobody wants them
}

// region appends a region whose bytes outside the runs are zeros.
func (w *memoryWriter) region(b []byte, runs []Range) error {
	end := int64(0)
	for _, r := range runs {
		w.skip(r.Offset - end)
		for end = r.Offset; end < r.End(); {
			if err := w.ctx.Err(); err != nil {
				return fmt.Errorf("write memory: %w", context.Cause(w.ctx))
			}
			n := min(chunkSize, r.End()-end)
			if err := w.data(b[end : end+n]); err != nil {
				return err
			}
			end += n
		}
	}
	w.skip(int64(len(b)) - end)
	return nil
}

// data appends whole pages, at most a chunk: runs of zero pages by a hole each, others by
// a write each.
func (w *memoryWriter) data(b []byte) error {
	for run, zero := range pageRuns(b) {
		if zero {
			w.skip(int64(len(run)))
			continue
		}
		if _, err := w.f.WriteAt(run, w.at); err != nil {
			return err
		}
		w.sums.add(run)
		w.at += int64(len(run))
	}
	return nil
}

func (w *memoryWriter) skip(n int64) {
	w.sums.addZeros(n)
	w.at += n
}
