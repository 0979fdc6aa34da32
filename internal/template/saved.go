package template

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/snapshot/sparse"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/memory"
)

// gap is how many bytes of zeros between two runs of data are mapped with them: a mapping
// costs more than that many pages of a file's hole.
const gap = 256 << 10

// mapMost is how many bytes are mapped ahead for a copy at most: what a guest did in its first
// moments must not make all that come after it slow. copyMost is the same of what is copied.
const (
	mapMost  = 64 << 20
	copyMost = 16 << 20
)

// Saved is a checkpoint as the monitor takes it. It is good until c is closed, of which
// nobody else may make use meanwhile. If nobody recorded what a copy touches, all is mapped
// ahead; of a guest with so much memory that its tables of pages are larger, nothing.
func Saved(c *format.Checkpoint) (*vmm.Saved, error) {
	s, _, err := Copy(c)
	if err != nil {
		return nil, err
	}
	if s.Watch {
		s.Watch = false
		for _, e := range s.Extents {
			s.Mapped = append(s.Mapped, memory.Range{Base: e.Addr, Size: uint64(e.Size)})
		}
	}
	return s, nil
}

// Copy is Saved of a template. first reports that nobody recorded yet what a copy touches: this
// one's Recording has it.
func Copy(c *format.Checkpoint) (s *vmm.Saved, first bool, err error) {
	s = &vmm.Saved{State: c.State()}
	var size int64
	for i, r := range c.Header().Regions {
		for _, p := range c.Pieces(format.Range{Offset: c.Offset(i), Length: int64(r.Size)}) {
			runs, err := runs(p)
			if err != nil {
				return nil, false, err
			}
			for _, run := range runs {
				size += run.Length
				s.Extents = append(s.Extents, vmm.Extent{Addr: r.Address + uint64(run.Offset-c.Offset(i)), File: p.File, Offset: run.Offset, Size: run.Length})
			}
		}
	}
	p, ok := c.Prefetch()
	s.Dirty, s.Mapped = addresses(c, p.Written), addresses(c, p.Touched)
	s.Watch = !ok && size <= mapMost
	return s, !ok, nil
}

// addresses are where parts of the memory's file are in the guest. Those that are not in one
// region are left out.
func addresses(c *format.Checkpoint, parts []format.Range) (list []memory.Range) {
	for _, p := range parts {
		if i := regionAt(c, p.Offset); p.End() <= c.Offset(i)+int64(c.Header().Regions[i].Size) {
			list = append(list, memory.Range{Base: c.Header().Regions[i].Address + uint64(p.Offset-c.Offset(i)), Size: uint64(p.Length)})
		}
	}
	return list
}

// regionAt is the region in which an offset of the memory is.
func regionAt(c *format.Checkpoint, offset int64) int {
	i := len(c.Header().Regions) - 1
	for i > 0 && c.Offset(i) > offset {
		i--
	}
	return i
}

// Recording is what the first copy of a template touches, for those that come after it.
type Recording struct {
	machine *vmm.Machine
	written []memory.Range
}

// Record begins the recording of m, which has come up: what it has written to by now is what
// others will write to, too.
func Record(m *vmm.Machine) (*Recording, error) {
	_, written, err := m.Memory().Touched()
	if err != nil {
		return nil, err
	}
	return &Recording{m, written}, nil
}

// Keep ends a recording, and keeps it for the shape's template if that has none. What was
// written to since Record is touched only: to map a page that is not needed costs little, to
// copy it memory.
func (c Cache) Keep(s *Shape, r *Recording) (err error) {
	defer func() { err = errors.Join(err, r.machine.Memory().Join()) }()
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
	if _, ok := t.Prefetch(); ok {
		return nil
	}
	read, written, err := r.machine.Memory().Touched()
	if err != nil {
		return err
	}
	return format.RecordPrefetch(dir, format.Prefetch{
		Written: atMost(offsets(t, r.written), copyMost), Touched: atMost(offsets(t, union(read, written)), mapMost),
	})
}

// union are the pages of two lists in one, in ascending order.
func union(a, b []memory.Range) []memory.Range {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(x, y memory.Range) int { return cmp.Compare(x.Base, y.Base) })
	return all
}

// offsets are where parts of the guest's memory are in the file, those that follow each other
// in one.
func offsets(t *format.Checkpoint, parts []memory.Range) (list []format.Range) {
	for i, r := range t.Header().Regions {
		for _, p := range parts {
			if p.Base < r.Address || p.Base-r.Address >= r.Size {
				continue
			}
			at := t.Offset(i) + int64(p.Base-r.Address)
			if n := len(list); n > 0 && at == list[n-1].End() && list[n-1].Offset >= t.Offset(i) {
				list[n-1].Length = at + int64(p.Size) - list[n-1].Offset
			} else {
				list = append(list, format.Range{Offset: at, Length: int64(p.Size)})
			}
		}
	}
	return list
}

// atMost is the beginning of a list that has not more than n bytes.
func atMost(list []format.Range, n int64) []format.Range {
	for i, r := range list {
		if n -= r.Length; n < 0 {
			return list[:i]
		}
	}
	return list
}

// runs lists the data of a piece, in whole pages.
func runs(p format.Piece) (list []sparse.Extent, err error) {
	for at := p.Offset; ; {
		e, err := sparse.Next(p.File, at, p.End())
		if errors.Is(err, sparse.ErrUnsupported) {
			return []sparse.Extent{{Offset: p.Offset, Length: p.Length}}, nil
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
