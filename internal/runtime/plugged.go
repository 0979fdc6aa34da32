package runtime

import (
	"errors"
	"fmt"

	"github.com/gomsb/gomsb/internal/launch"
)

// errNoMemoryDriver reports a guest that leaves the memory device alone.
var errNoMemoryDriver = errors.New("the guest's kernel has no driver for memory that comes and goes (virtio-mem): use the kernel of this release")

// pluggedMemory changes how much memory the guest has. The guest's kernel does that by
// itself as soon as it is asked, as far as it can: the agent has no part in it.
type pluggedMemory struct {
	boot, most uint32 // MiB
	machine    interface {
		Memory() Memory
		SetMemory(mib int) error
	}
}

// driven reports that the guest can be asked.
func (p *pluggedMemory) driven() bool { return p.machine.Memory().Driven }

// setTarget asks the guest to have so many MiB. It keeps what it started with if that is
// more, as in the official runtime, whose clients count on it; the state says so.
func (p *pluggedMemory) setTarget(mib uint32) (*launch.MemoryState, error) {
	switch {
	case mib == 0 || mib > p.most:
		return nil, fmt.Errorf("%d MiB of memory are not possible: choose %d to %d", mib, p.boot, p.most)
	case !p.driven():
		return nil, errNoMemoryDriver
	}
	mib = max(mib, p.boot)
	if err := p.machine.SetMemory(int(mib)); err != nil {
		return nil, err
	}
	return p.state(), nil
}

// state tells how far the guest is.
func (p *pluggedMemory) state() *launch.MemoryState {
	m := p.machine.Memory()
	return &launch.MemoryState{BootMiB: p.boot, TargetMiB: uint32(m.TargetMiB), CurrentMiB: uint32(m.CurrentMiB), MaxMiB: p.most}
}
