package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

const sectorSize = blk.SectorSize

// store is the file of an image; blk.File documents the methods.
type store interface {
	Size() uint64
	Read(off uint64, dst [][]byte, skip, n uint64) error
	Write(off uint64, src [][]byte, skip, n uint64) error
	Zero(off, n uint64) error
	Grow(size uint64) error
	Sync() error
	Close() error
}

// image is a Backend.
type image struct {
	header
	file     store
	disk     uint64 // size in bytes, whole sectors
	readOnly bool

	// ops is held for reading while a request uses clusters, and for writing while
	// clusters become free: nobody reads or writes a cluster that has another purpose by
	// then. It is taken before mu.
	ops sync.RWMutex

	mu    sync.Mutex // of all that follows
	l1    []byte     // the table as it is in the file
	l1Mod span       // entries that the file has not got yet
	l2    *cache
	alloc allocator
	// meta holds the offsets of all clusters that are no data: those of the header and
	// of tables.
	meta map[uint64]struct{}
	end  uint64 // clusters of the file; all from here on are free and zero

	scratch []byte // a cluster, made when it is first needed
	one     [1][]byte

	owed       atomic.Int64 // len(alloc.dropped), as others may see it
	compressed decompressor
	close      sync.Once
	closed     error
}

// span is a part of a table in entries.
type span struct{ from, to uint64 }

func (s *span) add(i uint64) {
	if s.from == s.to {
		*s = span{i, i + 1}
	}
	s.from, s.to = min(s.from, i), max(s.to, i+1)
}

// Open opens the image at path. The error wraps one of this package's, blk.ErrImage, or
// is that of the host. A disk that is not read-only must be used by nobody else.
func Open(path string, readOnly bool) (blk.Backend, error) {
	f, err := blk.OpenFile(path, readOnly)
	if err != nil {
		return nil, err
	}
	m, err := open(f, readOnly)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return m, nil
}

// open reads and checks the tables that stay in memory.
func open(f store, readOnly bool) (*image, error) {
	var b [headerV3 + 8]byte
	head := b[:min(uint64(len(b)), f.Size())]
	if err := f.Read(0, [][]byte{head}, 0, uint64(len(head))); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	h, err := parseHeader(head, f.Size())
	if err != nil {
		return nil, err
	}
	m := &image{file: f, header: h, disk: h.size / sectorSize * sectorSize, readOnly: readOnly, meta: make(map[uint64]struct{})}
	cs := m.clusterSize()
	m.end = (f.Size() + cs - 1) / cs
	m.l2 = newCache(int(max(4, l2Memory/cs)))
	m.alloc.init(m)
	m.compressed.init(m)
	m.meta[0] = struct{}{}
	if m.l1, err = m.readTable(h.l1Off, h.l1Entries*8); err != nil {
		return nil, fmt.Errorf("L1 table: %w", err)
	}
	for i := uint64(0); i < h.l1Entries; i++ {
		if err := m.claim(binary.BigEndian.Uint64(m.l1[i*8:]), ^uint64(flagCopied|maskOffset)); err != nil {
			return nil, fmt.Errorf("L1 entry %d: %w", i, err)
		}
	}
	if !readOnly {
		if err := m.prepare(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// l2Memory is how much memory L2 tables may take in bytes: enough for 64 GiB of disk in
// clusters of 64 KiB.
const l2Memory = 8 << 20

// readTable reads a table of n bytes and takes its clusters for it.
func (m *image) readTable(off, n uint64) ([]byte, error) {
	cs := m.clusterSize()
	for o := off; o < off+n; o += cs {
		if err := m.claim(o, 0); err != nil {
			return nil, err
		}
	}
	b := make([]byte, n)
	return b, m.file.Read(off, [][]byte{b}, 0, n)
}

// claim checks a reference to a cluster of metadata, which no other may refer to; 0 is
// none. Bits of reserved must not be set.
func (m *image) claim(entry, reserved uint64) error {
	off := entry & maskOffset
	switch {
	case entry&reserved != 0:
		return fmt.Errorf("%w: entry %#x has unknown bits", ErrCorrupt, entry)
	case off == 0:
		return nil
	case off%m.clusterSize() != 0 || off>>m.clusterBits >= m.end:
		return fmt.Errorf("%w: no cluster at %#x", ErrCorrupt, off)
	}
	if _, ok := m.meta[off]; ok {
		return fmt.Errorf("%w: cluster at %#x holds two tables", ErrCorrupt, off)
	}
	m.meta[off] = struct{}{}
	return nil
}

// prepare makes an image ready for writes.
func (m *image) prepare() error {
	switch {
	case m.incompatible&incompatDirty != 0:
		return ErrDirty
	case m.incompatible&incompatCorrupt != 0:
		return fmt.Errorf("%w: it is marked so", ErrCorrupt)
	}
	if err := m.alloc.load(); err != nil {
		return err
	}
	// Nothing that holds a table may count as free, or it would be given to data.
	for _, off := range slices.Sorted(maps.Keys(m.meta)) {
		n, err := m.alloc.count(off >> m.clusterBits)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: table at %#x counts as free", ErrCorrupt, off)
		}
	}
	if err := m.file.Grow(m.end << m.clusterBits); err != nil {
		return fmt.Errorf("grow to whole clusters: %w", err)
	}
	if m.autoclear == 0 {
		return nil
	}
	// What these features describe (bitmaps) will not be true any more.
	if err := m.file.Write(headerAutoclear, [][]byte{make([]byte, 8)}, 0, 8); err != nil {
		return err
	}
	return m.file.Sync()
}

func (m *image) Size() uint64   { return m.disk }
func (m *image) ReadOnly() bool { return m.readOnly }

// Close frees everything, without a flush.
func (m *image) Close() error {
	m.close.Do(func() {
		m.compressed.end()
		m.closed = m.file.Close()
	})
	return m.closed
}

// readRaw fills n bytes of dst after skip from off of the file. The last cluster of a
// file that is only read may be cut off: it goes on with zeros.
func (m *image) readRaw(off uint64, dst [][]byte, skip, n uint64) error {
	if size := m.file.Size(); m.readOnly && off+n > size {
		have := uint64(0)
		if off < size {
			have = size - off
		}
		blk.Wipe(dst, skip+have, n-have)
		n = have
	}
	if n == 0 {
		return nil
	}
	return m.file.Read(off, dst, skip, n)
}

// get reads a table. mu is held.
func (m *image) get(off uint64, b []byte) error {
	m.one[0] = b
	return m.file.Read(off, m.one[:], 0, uint64(len(b)))
}

// store writes a table, or a part of one. mu is held.
func (m *image) store(off uint64, b []byte) error {
	m.one[0] = b
	return m.file.Write(off, m.one[:], 0, uint64(len(b)))
}
