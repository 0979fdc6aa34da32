package qcow2

import "encoding/binary"

// room is a slot of c, after a commit if all are dirty.
func (m *image) room(c *cache) (*slot, error) {
	if s := c.room(m.clusterSize()); s != nil {
		return s, nil
	}
	if err := m.commit(); err != nil {
		return nil, err
	}
	if err := m.storeCounts(); err != nil {
		return nil, err
	}
	return c.room(m.clusterSize()), nil
}

// storeCounts writes the dirty blocks of reference counts. It does no harm if they
// become durable at any time: no table in the file needs them yet, and each commit has
// the host flush before it writes one that does.
func (m *image) storeCounts() error {
	if err := m.storeDirty(m.alloc.blocks); err != nil {
		return err
	}
	m.alloc.blocks.clean()
	return nil
}

// storeDirty writes the dirty tables of c.
func (m *image) storeDirty(c *cache) error {
	if c.dirty == 0 {
		return nil
	}
	for _, s := range c.slots {
		if !s.dirty {
			continue
		}
		if err := m.store(s.off, s.data); err != nil {
			return err
		}
	}
	return nil
}

func (c *cache) clean() {
	for _, s := range c.slots {
		s.dirty = false
	}
	c.dirty = 0
}

// commit writes what the file has not got, in the order that the package comment gives.
// A table counts as written only when the host says that it is durable.
func (m *image) commit() error {
	a := &m.alloc
	if a.mod == (span{}) && !a.moved && m.l2.dirty == 0 && m.l1Mod == (span{}) {
		// Counts alone can wait for a commit with something that needs them.
		return nil
	}
	if err := m.storeCounts(); err != nil {
		return err
	}
	if err := m.file.Sync(); err != nil {
		return err
	}
	if err := a.commit(); err != nil {
		return err
	}
	if m.l2.dirty > 0 {
		if err := m.storeDirty(m.l2); err != nil {
			return err
		}
		if err := m.file.Sync(); err != nil {
			return err
		}
		m.l2.clean()
	}
	if d := m.l1Mod; d != (span{}) {
		if err := m.store(m.l1Off+d.from*8, m.l1[d.from*8:d.to*8]); err != nil {
			return err
		}
		if err := m.file.Sync(); err != nil {
			return err
		}
		m.l1Mod = span{}
	}
	return nil
}

// commit writes the table of reference counts, whose blocks are in the file.
func (a *allocator) commit() error {
	m := a.m
	switch {
	case a.mod.to > m.tableClusters<<m.clusterBits/8:
		return errFull // the table was to grow, and could not
	case a.moved:
		if err := m.store(m.tableOff, a.table); err != nil {
			return err
		}
	case a.mod != (span{}):
		if err := m.store(m.tableOff+a.mod.from*8, a.table[a.mod.from*8:a.mod.to*8]); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := m.file.Sync(); err != nil {
		return err
	}
	if a.moved {
		var b [12]byte
		binary.BigEndian.PutUint64(b[:], m.tableOff)
		binary.BigEndian.PutUint32(b[8:], uint32(m.tableClusters))
		if err := m.file.Write(headerTable, [][]byte{b[:]}, 0, uint64(len(b))); err != nil {
			return err
		}
		if err := m.file.Sync(); err != nil {
			return err
		}
	}
	a.mod, a.moved = span{}, false
	return nil
}

// Flush makes durable what was written by calls that returned before it began.
func (m *image) Flush() error {
	if m.readOnly {
		return nil
	}
	// Most of the time goes here, where it holds up nobody.
	if err := m.file.Sync(); err != nil {
		return err
	}
	m.mu.Lock()
	err := m.commit()
	m.mu.Unlock()
	if err != nil || m.owed.Load() == 0 {
		return err
	}
	return m.lockAndSettle()
}

func (m *image) lockAndSettle() error {
	m.ops.Lock()
	defer m.ops.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settle()
}
