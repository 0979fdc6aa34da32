package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
)

// errNoMemoryDriver reports a guest that leaves the memory device alone.
var errNoMemoryDriver = errors.New("the guest's kernel has no driver for memory that comes and goes (virtio-mem): use the kernel of this release")

// pluggedMemory changes how much memory the guest has. The guest's kernel does that by
// itself as soon as it is asked, as far as it can: the agent has no part in it.
type pluggedMemory struct {
	boot, most uint32 // MiB
	machine    memoryMachine
	asked      chan struct{} // something was asked of the guest; room for one
}

// memoryMachine is the machine as far as its memory goes.
type memoryMachine interface {
	Memory() Memory
	SetMemory(mib int) error
}

func newPluggedMemory(m memoryMachine, boot, most int) *pluggedMemory {
	return &pluggedMemory{boot: uint32(boot), most: uint32(most), machine: m, asked: make(chan struct{}, 1)}
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
	select {
	case p.asked <- struct{}{}:
	default:
	}
	return p.state(), nil
}

// How long a guest that could not do what it was asked is left alone. Linux waits for 50 s
// and more between its attempts, which is long for someone who waits for it; each costs it
// some work, so that there are fewer the longer it takes.
const (
	firstReminder = time.Second
	lastReminder  = 30 * time.Second
)

// remind asks the guest again as long as it does not have the memory that it should have.
// It returns when ctx is done.
func (p *pluggedMemory) remind(ctx context.Context) {
	var again <-chan time.Time // nil: it has
	wait := firstReminder
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.asked:
			wait = firstReminder
		case <-again:
			wait = min(2*wait, lastReminder)
			if m := p.machine.Memory(); m.TargetMiB != m.CurrentMiB {
				_ = p.machine.SetMemory(m.TargetMiB) // it was possible before
			}
		}
		again = nil
		if m := p.machine.Memory(); m.TargetMiB != m.CurrentMiB {
			again = time.After(wait)
		}
	}
}

// state tells how far the guest is.
func (p *pluggedMemory) state() *launch.MemoryState {
	m := p.machine.Memory()
	return &launch.MemoryState{BootMiB: p.boot, TargetMiB: uint32(m.TargetMiB), CurrentMiB: uint32(m.CurrentMiB), MaxMiB: p.most}
}
