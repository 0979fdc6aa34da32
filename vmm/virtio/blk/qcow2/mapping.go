package qcow2

import (
	"encoding/binary"
	"fmt"
)

const (
	flagCopied     = 1 << 63 // of an L1 or L2 entry: its cluster has one use
	flagCompressed = 1 << 62 // of an L2 entry
	flagZero       = 1 << 0  // of an L2 entry, version 3
	maskOffset     = 1<<56 - 512
)

// place is what a cluster of the disk is in the file.
type place int

const (
	placeZero       place = iota // nowhere: it reads as zeros
	placeOwn                     // in a cluster that may be written
	placeShared                  // in a cluster that others use too
	placeCompressed              // see decompressor
)

// decode checks an L2 entry and gives its place and the offset in the file.
func (m *image) decode(entry uint64) (place, uint64, error) {
	if entry&flagCompressed != 0 {
		return placeCompressed, 0, nil
	}
	off := entry & maskOffset
	unknown := ^uint64(flagCopied | maskOffset)
	if m.version >= 3 {
		unknown &^= flagZero
	}
	_, table := m.meta[off]
	switch {
	case entry == 0, entry&flagZero != 0 && off == 0 && entry&unknown == 0:
		return placeZero, 0, nil
	case entry&unknown != 0 || off == 0 || off%m.clusterSize() != 0 || off>>m.clusterBits >= m.end || table:
		return 0, 0, fmt.Errorf("%w: L2 entry %#x", ErrCorrupt, entry)
	case entry&flagZero != 0:
		return placeZero, off, nil
	case entry&flagCopied != 0:
		return placeOwn, off, nil
	}
	return placeShared, off, nil
}

// table is the L2 table of cluster c of the disk, nil if there is none.
func (m *image) table(c uint64) (*slot, error) {
	off := binary.BigEndian.Uint64(m.l1[c/m.l2Entries()*8:]) & maskOffset
	if off == 0 {
		return nil, nil
	}
	if s := m.l2.find(off); s != nil {
		return s, nil
	}
	s, err := m.room(m.l2)
	if err != nil {
		return nil, err
	}
	if err := m.get(off, s.data); err != nil {
		return nil, fmt.Errorf("read L2 table: %w", err)
	}
	m.l2.put(s, off)
	return s, nil
}

// ownTable is the L2 table of cluster c of the disk, for a change.
func (m *image) ownTable(c uint64) (*slot, error) {
	s, err := m.table(c)
	if err != nil {
		return nil, err
	}
	i := c / m.l2Entries()
	old := binary.BigEndian.Uint64(m.l1[i*8:])
	if s != nil && old&flagCopied != 0 {
		return s, nil
	}
	off, err := m.alloc.allocate(true)
	if err != nil {
		return nil, err
	}
	if s == nil {
		if s, err = m.room(m.l2); err != nil {
			m.alloc.release(off)
			return nil, err
		}
		clear(s.data)
	} else {
		// A snapshot keeps the table; its entries stay the same in both.
		m.l2.forget(s.off)
		m.alloc.drop(s.off>>m.clusterBits, true)
	}
	m.l2.put(s, off)
	m.l2.mark(s)
	m.meta[off] = struct{}{}
	binary.BigEndian.PutUint64(m.l1[i*8:], off|flagCopied)
	m.l1Mod.add(i)
	return s, nil
}

// entry is the L2 entry of cluster c of the disk.
func (m *image) entry(c uint64) (uint64, error) {
	s, err := m.table(c)
	if s == nil || err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(s.data[c%m.l2Entries()*8:]), nil
}

// extent is what the disk has at off: n bytes at most, all of which are in one place.
type extent struct {
	place place
	off   uint64 // in the file
	n     uint64
	entry uint64 // of a compressed cluster
}

// locate is the extent at off of the disk, n bytes at most. Only one may hold mu.
func (m *image) locate(off, n uint64) (e extent, err error) {
	cs := m.clusterSize()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := off / cs; e.n < n; c++ {
		entry, err := m.entry(c)
		if err != nil {
			return e, err
		}
		p, host, err := m.decode(entry)
		if err != nil {
			if e.n > 0 {
				return e, nil // the error is that of the next extent
			}
			return e, err
		}
		in := (off + e.n) % cs
		switch {
		case e.n == 0:
			e = extent{place: p, off: host + in, entry: entry}
		case p != e.place || p == placeCompressed || p != placeZero && host != e.off+e.n:
			return e, nil
		}
		e.n = min(n, e.n+cs-in)
	}
	return e, nil
}

// dropEntry ends the uses of clusters that an L2 entry is.
func (m *image) dropEntry(entry uint64) {
	if entry&flagCompressed != 0 {
		off, n := m.compressedRange(entry)
		for i := off >> m.clusterBits; n > 0 && i <= (off+n-1)>>m.clusterBits && i < m.end; i++ {
			m.alloc.drop(i, false)
		}
		return
	}
	if off := entry & maskOffset; off != 0 {
		m.alloc.drop(off>>m.clusterBits, false)
	}
}
