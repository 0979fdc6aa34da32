package vmm

import (
	"fmt"
	"slices"

	"github.com/gomsb/gomsb/vmm/arch/amd64"
	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/mem"
)

// Memory beyond Config.MemoryMiB is a region of its own behind RAM, of which a device lets
// the guest have as much as the host says. The host gives pages when they are touched, and
// gets them back when the guest unplugs them.

// pluggableWords let the guest use what it plugs at once, and only for what can be moved
// away again.
const pluggableWords = "memhp_default_state=online_movable"

// pluggable is where memory may be plugged, in whole blocks; none if that is not wanted.
func (c *Config) pluggable() []memory.Range {
	n := uint64(max(c.MaxMemoryMiB-c.MemoryMiB, 0)) << 20 / mem.BlockSize * mem.BlockSize
	if n == 0 {
		return nil
	}
	return []memory.Range{amd64.Pluggable(uint64(c.MemoryMiB)<<20, n)}
}

// checkPluggable reports memory that the guest could not address.
func checkPluggable(later []memory.Range, supported []hv.CPUIDEntry) error {
	for _, r := range later {
		if most := amd64.MaxAddress(supported); r.Base+r.Size > most {
			return fmt.Errorf("%w: room for %d MiB to come does not fit into the addresses of this host's processor: choose %d less", ErrMemory, r.Size>>20, (r.Base+r.Size-most)>>20)
		}
	}
	return nil
}

// attachPluggable adds the device of the memory that is pluggable, if there is any.
func (m *Machine) attachPluggable() error {
	i := slices.IndexFunc(m.mem.Regions(), func(r memory.Region) bool { return r.Pluggable })
	if i < 0 {
		return nil
	}
	r := m.mem.Regions()[i]
	var err error
	if m.spare, err = mem.New(mem.Config{Base: r.Base, Size: r.Size, Logger: m.log}); err != nil {
		return err
	}
	return m.attach("memory", m.spare)
}

// PluggableMemory is the memory device, nil if Config.MaxMemoryMiB leaves nothing to plug.
func (m *Machine) PluggableMemory() *mem.Device { return m.spare }

// Contents are the parts of memory that hold what the guest put there: RAM, and blocks that
// are plugged. They are ascending, and as they are as long as the machine is paused.
func (m *Machine) Contents() (parts []memory.Range) {
	for _, r := range m.mem.Regions() {
		if r.Pluggable {
			parts = append(parts, m.spare.Plugged()...)
		} else {
			parts = append(parts, memory.Range{Base: r.Base, Size: r.Size})
		}
	}
	return parts
}
