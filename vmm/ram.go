package vmm

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/arch/amd64"
	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
)

// ErrMemory is wrapped by errors about guest memory that this host cannot give; each text
// says what to do. It wraps ErrConfig, since a smaller Config.MemoryMiB always helps.
var ErrMemory = fmt.Errorf("%w: memory", ErrConfig)

// mapMemory gives the machine mib MiB of RAM, and a place for what it may get later, on a
// host with the supported CPUID table.
func (m *Machine) mapMemory(mib int, later []memory.Range, supported []hv.CPUIDEntry) error {
	if most := amd64.MaxMemory(supported) >> 20; uint64(mib) > most {
		return fmt.Errorf("%w: %d MiB are more than this host's processor addresses: choose at most %d", ErrMemory, mib, most)
	}
	if err := checkPluggable(later, supported); err != nil {
		return err
	}
	var err error
	if m.mem, err = memory.New(append(amd64.Layout(uint64(mib)<<20), later...)); err != nil {
		return refused(mib, later, err)
	}
	for i, r := range m.mem.Regions() {
		if err := m.vm.MapMemory(uint32(i), r.Base, r.Host); err != nil {
			return refused(mib, later, err)
		}
	}
	return nil
}

// refused describes memory that the host's kernel does not give.
func refused(mib int, later []memory.Range, err error) error {
	room := ""
	for _, r := range later {
		room = fmt.Sprintf(" and room for %d more", r.Size>>20)
	}
	return fmt.Errorf("%w: the host refuses %d MiB%s: choose less, or raise its limits on address space (ulimit -v) and on overcommitment (vm.overcommit_memory): %w",
		ErrMemory, mib, room, err)
}
