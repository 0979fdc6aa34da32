package qcow2

// slot is a table of one cluster in memory.
type slot struct {
	off   uint64 // in the file
	data  []byte
	dirty bool // it differs from the file
	used  bool // since the hand passed
}

// cache holds some of the tables of one kind. Its memory is bounded; it is allocated as
// it is needed.
type cache struct {
	slots []*slot
	index map[uint64]*slot // by offset
	limit int
	hand  int
	dirty int // how many slots are
}

func newCache(limit int) *cache { return &cache{index: make(map[uint64]*slot), limit: limit} }

func (c *cache) find(off uint64) *slot {
	s := c.index[off]
	if s != nil {
		s.used = true
	}
	return s
}

func (c *cache) mark(s *slot) {
	if !s.dirty {
		s.dirty = true
		c.dirty++
	}
}

// room is a slot without a table, nil if all are dirty.
func (c *cache) room(size uint64) *slot {
	if len(c.slots) < c.limit {
		s := &slot{data: make([]byte, size)}
		c.slots = append(c.slots, s)
		return s
	}
	for range 2 * len(c.slots) {
		s := c.slots[c.hand]
		c.hand = (c.hand + 1) % len(c.slots)
		if s.dirty {
			continue
		}
		if !s.used {
			c.drop(s)
			return s
		}
		s.used = false
	}
	return nil
}

// put makes s, from room, the table at off.
func (c *cache) put(s *slot, off uint64) {
	s.off, s.used = off, true
	c.index[off] = s
}

// drop forgets the table of s.
func (c *cache) drop(s *slot) {
	if c.index[s.off] == s {
		delete(c.index, s.off)
	}
	if s.dirty {
		s.dirty = false
		c.dirty--
	}
	s.used = false
}

// forget drops the table at off, if it is there.
func (c *cache) forget(off uint64) {
	if s := c.index[off]; s != nil {
		c.drop(s)
	}
}
