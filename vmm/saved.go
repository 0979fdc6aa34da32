package vmm

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/memory"
)

// Saved is a machine as it was at SaveState, for Config.Saved.
type Saved struct {
	// State is what SaveState returned.
	State []byte
	// Extents are the content of guest memory; what is in none of them is zero. Their pages
	// are loaded when the guest touches them and are shared by all machines of a file until
	// they write to them; nobody may change the file while one of them lives. The caller may
	// close it after New.
	Extents []Extent
	// Dirty are parts of Extents that the guest will write to at once: their pages are
	// copied before it runs, which is quicker than one by one.
	Dirty []memory.Range
	// Mapped are parts of Extents that are mapped for the guest before it runs, which is
	// quicker than one page at a time.
	Mapped []memory.Range
	// Watch is for who wants to know what the guest touches: see [memory.Memory.Separate].
	Watch bool
}

// Extent is where a part of guest memory is in a file.
type Extent = memory.View

// load fills the memory from the file.
func (s *Saved) load(m *Machine) error {
	for _, e := range s.Extents {
		if err := m.mem.MapFile(e.Addr, e.File, e.Offset, e.Size); err != nil {
			return fmt.Errorf("%w: %w", ErrSavedState, err)
		}
	}
	if s.Watch {
		_ = m.mem.Separate() // less exact
	}
	for _, r := range s.Dirty {
		if m.mem.Populate(r.Base, r.Size) != nil {
			break // an old kernel; the guest will do it
		}
	}
	return nil
}

// mapAhead maps Mapped for the guest, as far as the host can do that.
func (s *Saved) mapAhead(m *Machine) {
	for _, r := range s.Mapped {
		if m.vcpus[0].hv.PreFault(r.Base, r.Size) != nil {
			break // an old kernel, or no hardware for it; the guest will do it
		}
	}
}

// Rebase has the files of extents behind the memory of a paused machine, which must be what it
// holds: see Saved. What the guest writes from then on is what differs from them. After an error
// the machine is as good as before.
func (m *Machine) Rebase(extents []Extent) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.mu.Lock()
	paused := m.want.Load() == wantPark && m.parked == m.running
	m.mu.Unlock()
	if !paused {
		return fmt.Errorf("%w: it is not paused", ErrState)
	}
	return m.mem.Rebase(m.Contents(), extents)
}
