package qcow2

import (
	"encoding/binary"

	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

// Discard gives up the clusters that lie inside n bytes at off.
func (m *image) Discard(off, n uint64) error {
	if m.readOnly {
		return blk.ErrReadOnly
	}
	cs := m.clusterSize()
	from, to := (off+cs-1)/cs, (off+n)/cs
	if off+n == m.disk {
		to = (off + n + cs - 1) / cs // behind the end is nothing
	}
	if from >= to {
		return nil
	}
	m.ops.Lock()
	defer m.ops.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := from; c < to; {
		next := min(to, (c/m.l2Entries()+1)*m.l2Entries())
		if err := m.unmap(c, next); err != nil {
			return err
		}
		c = next
	}
	return nil
}

// unmap gives up clusters of one L2 table. All locks are held.
func (m *image) unmap(from, to uint64) error {
	s, err := m.table(from)
	if s == nil || err != nil {
		return err
	}
	for c := from; c < to; c++ {
		entry := binary.BigEndian.Uint64(s.data[c%m.l2Entries()*8:])
		if entry == 0 {
			continue
		}
		if _, _, err := m.decode(entry); err != nil {
			return err
		}
		// The first change may move the table.
		if s, err = m.ownTable(c); err != nil {
			return err
		}
		binary.BigEndian.PutUint64(s.data[c%m.l2Entries()*8:], 0)
		m.l2.mark(s)
		m.dropEntry(entry)
		if len(m.alloc.dropped) >= maxDropped {
			if err := m.settle(); err != nil {
				return err
			}
		}
	}
	return nil
}

// zeroes is what is written where nothing better is.
var zeroes [64 << 10]byte

// WriteZeroes makes n bytes at off zero. Clusters that have a place of their own keep it
// without unmap; others have none afterwards.
func (m *image) WriteZeroes(off, n uint64, unmap bool) error {
	if m.readOnly {
		return blk.ErrReadOnly
	}
	if unmap {
		if err := m.Discard(off, n); err != nil {
			return err
		}
	}
	for n > 0 {
		step, err := m.zero(off, n)
		if err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

// zero makes some of n bytes at off zero and returns how many.
func (m *image) zero(off, n uint64) (uint64, error) {
	m.ops.RLock()
	e, err := m.locate(off, n)
	switch {
	case err != nil || e.place == placeZero:
		m.ops.RUnlock()
		return e.n, err
	case e.place == placeOwn:
		err = m.file.Zero(e.off, e.n)
		m.ops.RUnlock()
		return e.n, err
	}
	m.ops.RUnlock()
	list := [1][]byte{zeroes[:min(e.n, uint64(len(zeroes)))]}
	return uint64(len(list[0])), m.WriteV(off, list[:])
}
