package qcow2

import (
	"encoding/binary"
	"fmt"
	"math"
	"syscall"
)

const (
	blockMemory = 4 << 20 // for blocks of reference counts, in bytes
	// growth is how much a file grows at a time, in bytes.
	growth = 4 << 20
	// maxDropped is how many dropped clusters are kept before they are settled.
	maxDropped = 4096
)

// allocator counts the uses of clusters. The image's mu is held for all of it.
type allocator struct {
	m       *image
	table   []byte // the table as it is in the file
	mod     span   // entries that the file has not got yet
	moved   bool   // the whole table is in a new place, which the header does not name
	blocks  *cache
	hint    uint64 // no cluster below is free
	grown   uint64 // length that the file has at least
	dropped []drop
	broken  error // the table could not grow
}

// drop is a use of a cluster that will end when no table in the file shows it.
type drop struct {
	cluster uint64
	table   bool // it was metadata
}

func (a *allocator) init(m *image) {
	a.m = m
	a.blocks = newCache(int(max(4, blockMemory>>m.clusterBits)))
	a.grown = m.file.Size()
}

// load reads the table.
func (a *allocator) load() (err error) {
	m := a.m
	if a.table, err = m.readTable(m.tableOff, m.tableClusters<<m.clusterBits); err != nil {
		return fmt.Errorf("table of reference counts: %w", err)
	}
	for i := 0; i < len(a.table); i += 8 {
		if err := m.claim(binary.BigEndian.Uint64(a.table[i:]), ^uint64(maskOffset)); err != nil {
			return fmt.Errorf("block %d of reference counts: %w", i/8, err)
		}
	}
	return nil
}

// block is the block of cluster i in memory and the index in it; nil if there is none.
func (a *allocator) block(i uint64) (*slot, uint64, error) {
	n, at := i/a.m.blockEntries(), i%a.m.blockEntries()
	if n >= uint64(len(a.table)/8) {
		return nil, at, nil
	}
	off := binary.BigEndian.Uint64(a.table[n*8:])
	if off == 0 {
		return nil, at, nil
	}
	s := a.blocks.find(off)
	if s != nil {
		return s, at, nil
	}
	s, err := a.m.room(a.blocks)
	if err != nil {
		return nil, at, err
	}
	if err := a.m.get(off, s.data); err != nil {
		return nil, at, fmt.Errorf("read reference counts: %w", err)
	}
	a.blocks.put(s, off)
	return s, at, nil
}

// count is how many uses cluster i has.
func (a *allocator) count(i uint64) (uint64, error) {
	s, at, err := a.block(i)
	if s == nil || err != nil {
		return 0, err
	}
	return refcount(s.data, a.m.refcountOrder, at), nil
}

// set changes how many uses cluster i has, which has a block.
func (a *allocator) set(i, n uint64) error {
	s, at, err := a.block(i)
	switch {
	case err != nil:
		return err
	case s == nil:
		return fmt.Errorf("%w: cluster %d has no reference count", ErrCorrupt, i)
	}
	setRefcount(s.data, a.m.refcountOrder, at, n)
	a.blocks.mark(s)
	return nil
}

// allocate gives the offset of a cluster that was free. It reads as zeros, unless whole
// says that all of it will be written.
func (a *allocator) allocate(whole bool) (uint64, error) {
	for i := a.hint; ; i++ {
		if a.broken != nil {
			return 0, a.broken
		}
		if i/a.m.blockEntries() >= uint64(len(a.table)/8) {
			if err := a.growTable(); err != nil {
				a.broken = err
				return 0, err
			}
		}
		s, at, err := a.block(i)
		if err != nil {
			return 0, err
		}
		if s == nil {
			if err := a.addBlock(i/a.m.blockEntries(), i); err != nil {
				return 0, err
			}
			continue
		}
		per := a.m.blockEntries()
		for at < per && refcount(s.data, a.m.refcountOrder, at) != 0 {
			at, i = at+1, i+1
		}
		if at == per {
			a.hint = i
			i--
			continue
		}
		if err := a.take(i, whole); err != nil {
			return 0, err
		}
		if err := a.set(i, 1); err != nil {
			return 0, err
		}
		a.hint = i + 1
		return i << a.m.clusterBits, nil
	}
}

// take makes room in the file for cluster i, which is free.
func (a *allocator) take(i uint64, whole bool) error {
	m := a.m
	cs := m.clusterSize()
	if i >= maskOffset>>m.clusterBits {
		return errFull
	}
	if _, ok := m.meta[i<<m.clusterBits]; ok {
		return fmt.Errorf("%w: table at %#x counts as free", ErrCorrupt, i<<m.clusterBits)
	}
	if i < m.end {
		if whole {
			return nil
		}
		return m.file.Zero(i<<m.clusterBits, cs)
	}
	need := (i + 1) << m.clusterBits
	if need > math.MaxInt64-growth {
		return syscall.EFBIG
	}
	if need > a.grown {
		// A file that cannot grow by much may still grow by enough.
		to := need + growth
		if err := m.file.Grow(to); err != nil {
			to = need
			if err := m.file.Grow(to); err != nil {
				return err
			}
		}
		a.grown = to
	}
	m.end = i + 1
	return nil
}

// release takes back an allocation that no table shows. It is no harm if it fails.
func (a *allocator) release(off uint64) {
	if i := off >> a.m.clusterBits; a.set(i, 0) == nil {
		a.hint = min(a.hint, i)
	}
}

// addBlock makes cluster i, which is free, block n of the counts.
func (a *allocator) addBlock(n, i uint64) error {
	off := i << a.m.clusterBits
	if err := a.take(i, true); err != nil {
		return err
	}
	s, err := a.m.room(a.blocks)
	if err != nil {
		return err
	}
	clear(s.data)
	a.blocks.put(s, off)
	a.blocks.mark(s)
	binary.BigEndian.PutUint64(a.table[n*8:], off)
	a.mod.add(n)
	a.m.meta[off] = struct{}{}
	return a.set(i, 1)
}

// growTable puts a table of twice the size at the end of the file.
func (a *allocator) growTable() error {
	m := a.m
	clusters := m.tableClusters * 2
	if clusters<<m.clusterBits > maxTable {
		return errFull
	}
	// So that nothing has to be written while the table has no place.
	if err := m.commit(); err != nil {
		return err
	}
	if err := m.storeCounts(); err != nil {
		return err
	}
	table := make([]byte, clusters<<m.clusterBits)
	copy(table, a.table)
	old := span{m.tableOff >> m.clusterBits, m.tableOff>>m.clusterBits + m.tableClusters}
	a.table = table
	per := m.blockEntries()
	for missing := true; missing; {
		missing = false
		base := m.end
		for n := base / per; n <= (base+clusters-1)/per; n++ {
			if binary.BigEndian.Uint64(table[n*8:]) == 0 {
				// base has a block after the first turn, if it is not this.
				if err := a.addBlock(n, base); err != nil {
					return err
				}
				missing = true
				break
			}
		}
	}
	base := m.end
	for i := base; i < base+clusters; i++ {
		if err := a.take(i, true); err != nil {
			return err
		}
		if err := a.set(i, 1); err != nil {
			return err
		}
		m.meta[i<<m.clusterBits] = struct{}{}
	}
	m.tableOff, m.tableClusters, a.moved = base<<m.clusterBits, clusters, true
	for i := old.from; i < old.to; i++ {
		a.drop(i, true)
	}
	return nil
}

// drop ends a use of cluster i as soon as the file does not show it.
func (a *allocator) drop(i uint64, table bool) {
	a.dropped = append(a.dropped, drop{i, table})
	a.m.owed.Store(int64(len(a.dropped)))
}

// settle counts what was dropped. ops is held for writing.
func (m *image) settle() error {
	a := &m.alloc
	if len(a.dropped) == 0 {
		return nil
	}
	if err := m.commit(); err != nil {
		return err
	}
	for _, d := range a.dropped {
		off := d.cluster << m.clusterBits
		if d.table {
			delete(m.meta, off)
		} else if _, ok := m.meta[off]; ok {
			continue // a wrong reference to a table: the table stays
		}
		n, err := a.count(d.cluster)
		if err != nil || n == 0 {
			continue // it stays in use, or was never counted
		}
		if a.set(d.cluster, n-1) != nil || n > 1 {
			continue
		}
		a.hint = min(a.hint, d.cluster)
		// The space is lost if this fails, and only that.
		_ = m.file.Zero(off, m.clusterSize())
	}
	a.dropped = a.dropped[:0]
	m.owed.Store(0)
	// Counts that are too high do no harm: nothing waits for these.
	return m.storeCounts()
}
