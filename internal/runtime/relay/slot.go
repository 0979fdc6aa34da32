package relay

import "time"

// The next client of a slot uses the same ids again, from the first on. What the guest
// still says to the last one must not reach it, or a command would get the exit code of
// another. So a slot is free again when the guest has ended everything that was under
// way, or when it had time to.

// quarantine is how long a slot rests whose last client left something under way. The
// guest kills commands at once; what it has not ended by then it has dropped silently.
const quarantine = 10 * time.Second

// maxOpen bounds how many ids of one client are remembered.
const maxOpen = 1 << 16

// openIDs are the ids that a client has used and the guest has not ended.
type openIDs struct {
	ids      map[uint32]struct{}
	highest  uint32 // that was ever added; used by one goroutine only
	overflow bool   // there were more
}

// isNew reports that id was not used before, for a client that counts up, as all do.
func (o *openIDs) isNew(id uint32) bool {
	if id <= o.highest {
		return false
	}
	o.highest = id
	return true
}

func (o *openIDs) add(id uint32) {
	if len(o.ids) >= maxOpen {
		o.overflow = true
		return
	}
	if o.ids == nil {
		o.ids = make(map[uint32]struct{})
	}
	o.ids[id] = struct{}{}
}

// has reports that an id is under way.
func (o *openIDs) has(id uint32) bool {
	_, ok := o.ids[id]
	return ok
}

// end forgets an id.
func (o *openIDs) end(id uint32) { delete(o.ids, id) }

// none reports that nothing is under way.
func (o *openIDs) none() bool { return len(o.ids) == 0 && !o.overflow }

// retire frees the slot of c if c has left and nothing of it is under way. The caller
// holds r.mu.
func (r *Relay) retire(c *client) {
	if !c.left.IsZero() && c.open.none() && r.clients[c.slot] == c {
		r.clients[c.slot] = nil
	}
}

// freeSlot is the lowest slot that is free, or else the one that has rested longest. The
// caller holds r.mu.
func (r *Relay) freeSlot(now time.Time) (slot int, ok bool) {
	for i, c := range r.clients {
		switch {
		case c == nil, !c.left.IsZero() && now.Sub(c.left) >= quarantine:
			return i, true
		case !c.left.IsZero() && (!ok || c.left.Before(r.clients[slot].left)):
			slot, ok = i, true
		}
	}
	return slot, ok
}
