package memory

import (
	"errors"
	"fmt"
	"os"
	"sort"
)

// PageSize is the granularity of ranges and of Discard, in bytes.
const PageSize = 4096

var (
	// ErrOutOfRange reports an access that is not inside one region of RAM.
	ErrOutOfRange = errors.New("guest address out of range")
	// ErrLayout reports ranges that cannot be RAM: empty, unaligned, overlapping or
	// wrapping around.
	ErrLayout = errors.New("invalid guest memory layout")
)

// Range is a guest-physical range, in bytes, multiples of PageSize.
type Range struct {
	Base, Size uint64
	// Pluggable memory is not the guest's from the start: a device hands it out.
	Pluggable bool
}

// Region is a range of RAM with the host memory behind it.
type Region struct {
	Base, Size uint64
	Host       []byte
	Pluggable  bool // see Range
}

// View is where a part of memory is in a file. All three numbers are in bytes and whole pages.
type View struct {
	Addr         uint64
	File         *os.File
	Offset, Size int64
}

// Memory is the RAM of one guest. Methods are safe for concurrent use, except with
// Close, after which nothing that they returned may be touched.
type Memory struct {
	regions []Region // ascending, not overlapping
	maps    []mapping
	size    uint64
	files   []Range // replaced by MapFile
}

// New maps RAM for each range: private, zero, not reserved against the host's commit
// limit, with inaccessible pages before and after it, and not inherited by children. Its
// addresses are congruent to the guest's by 2 MiB, so that huge pages can serve the guest.
func New(ranges []Range) (*Memory, error) {
	sorted := append([]Range(nil), ranges...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Base < sorted[j].Base })
	if len(sorted) == 0 {
		return nil, fmt.Errorf("%w: no ranges", ErrLayout)
	}
	for i, r := range sorted {
		end := r.Base + r.Size
		if r.Size == 0 || r.Base%PageSize != 0 || r.Size%PageSize != 0 || end < r.Base || r.Size > 1<<46 {
			return nil, fmt.Errorf("%w: %#x bytes at %#x", ErrLayout, r.Size, r.Base)
		}
		if i > 0 && r.Base < sorted[i-1].Base+sorted[i-1].Size {
			return nil, fmt.Errorf("%w: %#x overlaps %#x", ErrLayout, r.Base, sorted[i-1].Base)
		}
	}
	m := &Memory{}
	for _, r := range sorted {
		mp, err := mapGuarded(r)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map %d MiB of guest memory: %w", r.Size>>20, err), m.Close())
		}
		m.maps = append(m.maps, mp)
		m.regions = append(m.regions, Region{Base: r.Base, Size: r.Size, Host: mp.usable, Pluggable: r.Pluggable})
		if !r.Pluggable {
			m.size += r.Size
		}
	}
	return m, nil
}

// Close unmaps the memory. It is idempotent.
func (m *Memory) Close() error {
	var errs []error
	for _, mp := range m.maps {
		errs = append(errs, mp.unmap())
	}
	m.maps, m.regions = nil, nil
	return errors.Join(errs...)
}

// Size is the amount of RAM in bytes, without what is pluggable.
func (m *Memory) Size() uint64 { return m.size }

// Regions lists the RAM in ascending order.
func (m *Memory) Regions() []Region { return m.regions }

// Slice is the host's view of the n bytes at addr, n > 0, which must all be inside one
// region; else ErrOutOfRange. It does not allocate.
func (m *Memory) Slice(addr, n uint64) ([]byte, error) {
	for i := range m.regions {
		r := &m.regions[i]
		if addr >= r.Base && addr-r.Base < r.Size {
			off := addr - r.Base
			if n == 0 || n > r.Size-off {
				return nil, ErrOutOfRange
			}
			return r.Host[off : off+n : off+n], nil
		}
	}
	return nil, ErrOutOfRange
}

// ReadAt copies len(p) bytes from addr.
func (m *Memory) ReadAt(p []byte, addr uint64) error {
	if len(p) == 0 {
		return nil
	}
	b, err := m.Slice(addr, uint64(len(p)))
	if err != nil {
		return fmt.Errorf("read %d bytes at %#x: %w", len(p), addr, err)
	}
	copy(p, b)
	return nil
}

// WriteAt copies p to addr.
func (m *Memory) WriteAt(p []byte, addr uint64) error {
	if len(p) == 0 {
		return nil
	}
	b, err := m.Slice(addr, uint64(len(p)))
	if err != nil {
		return fmt.Errorf("write %d bytes at %#x: %w", len(p), addr, err)
	}
	copy(b, p)
	return nil
}

// Discard gives whole pages back to the host; the guest reads zeros from them.
func (m *Memory) Discard(addr, n uint64) error {
	if addr%PageSize != 0 || n%PageSize != 0 {
		return fmt.Errorf("discard %d bytes at %#x: %w: not whole pages", n, addr, ErrOutOfRange)
	}
	b, err := m.Slice(addr, n)
	if err != nil {
		return fmt.Errorf("discard %d bytes at %#x: %w", n, addr, err)
	}
	for _, f := range m.files {
		if addr < f.Base+f.Size && f.Base < addr+n {
			return discardFile(b) // else what the file holds would come back
		}
	}
	return discard(b)
}
