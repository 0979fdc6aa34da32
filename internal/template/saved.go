package template

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/snapshot/sparse"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/memory"
)

// gap is how many bytes of zeros between two runs of data are mapped with them: a mapping
// costs more than that many pages of a file's hole.
const gap = 256 << 10

// mapMost is how many bytes are mapped ahead for a copy; of a guest with so much memory that
// its tables of pages are larger, only what it touches.
const mapMost = 64 << 20

// Saved is a checkpoint as the monitor takes it. It is good until c is closed, of which
// nobody else may make use meanwhile.
func Saved(c *format.Checkpoint) (*vmm.Saved, error) {
	s := &vmm.Saved{State: c.State(), Memory: c.MemoryFile()}
	var size int64
	for i, r := range c.Header().Regions {
		runs, err := runs(c, c.Offset(i), c.Offset(i)+int64(r.Size))
		if err != nil {
			return nil, err
		}
		for _, run := range runs {
			size += run.Length
			s.Extents = append(s.Extents, vmm.Extent{Addr: r.Address + uint64(run.Offset-c.Offset(i)), Offset: run.Offset, Size: run.Length})
		}
	}
	s.MapAll = size <= mapMost
	for _, p := range c.Prefetch() {
		if i := regionAt(c, p.Offset); p.End() <= c.Offset(i)+int64(c.Header().Regions[i].Size) {
			s.Dirty = append(s.Dirty, memory.Range{Base: c.Header().Regions[i].Address + uint64(p.Offset-c.Offset(i)), Size: uint64(p.Length)})
		}
	}
	return s, nil
}

// regionAt is the region in which an offset of the memory is.
func regionAt(c *format.Checkpoint, offset int64) int {
	i := len(c.Header().Regions) - 1
	for i > 0 && c.Offset(i) > offset {
		i--
	}
	return i
}

// near is how many bytes between two written ranges are taken for written, too.
const near = 4 * memory.PageSize

// Record keeps what a copy of the shape's template has written to by the time it was
// ready, for those that come after it; m is that copy. It does so once.
func (c Cache) Record(s *Shape, m *vmm.Machine) error {
	key, _, err := s.key()
	if err != nil {
		return err
	}
	dir := filepath.Join(c.Dir, key)
	t, err := format.Open(context.Background(), dir)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	if len(t.Prefetch()) > 0 {
		return nil
	}
	written, err := m.Memory().Written()
	if err != nil {
		return err
	}
	var list []format.Range
	for i, r := range t.Header().Regions {
		for _, w := range written {
			if w.Base < r.Address || w.Base-r.Address >= r.Size {
				continue
			}
			at := t.Offset(i) + int64(w.Base-r.Address)
			if n := len(list); n > 0 && at-list[n-1].End() < near && list[n-1].Offset >= t.Offset(i) {
				list[n-1].Length = at + int64(w.Size) - list[n-1].Offset
			} else {
				list = append(list, format.Range{Offset: at, Length: int64(w.Size)})
			}
		}
	}
	return format.RecordPrefetch(dir, list)
}

// runs lists the data between two offsets of the memory, in whole pages.
func runs(c *format.Checkpoint, from, to int64) (list []sparse.Extent, err error) {
	for at := from; ; {
		e, err := sparse.Next(c.MemoryFile(), at, to)
		if errors.Is(err, sparse.ErrUnsupported) {
			return []sparse.Extent{{Offset: from, Length: to - from}}, nil
		}
		if err != nil || e.Length == 0 {
			return list, err
		}
		at = e.Offset + e.Length
		e.Length += e.Offset % format.PageSize
		e.Offset -= e.Offset % format.PageSize
		e.Length = (e.Length + format.PageSize - 1) / format.PageSize * format.PageSize
		if last := len(list) - 1; last >= 0 && e.Offset-(list[last].Offset+list[last].Length) < gap {
			list[last].Length = e.Offset + e.Length - list[last].Offset
		} else {
			list = append(list, e)
		}
	}
}
