package vmm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gomsb/gomsb/vmm/event"
	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
)

// Where devices live: windows of one page from the start of the hole below 4 GiB, each
// with an interrupt of its own on the in-kernel I/O APIC, which has 24 inputs.
const (
	mmioBase   = 0xD0000000
	mmioWindow = 0x1000
	firstGSI   = 5
	rtcGSI     = 8 // wired to the real-time clock in the MP table's ISA view
	lastGSI    = 23

	notifyOffset = 0x50 // QueueNotify, virtio 1.2 §4.2.2

	maxDisks = 10
)

// ErrTooManyDevices reports that the interrupt lines are used up.
var ErrTooManyDevices = errors.New("too many devices: no interrupt line left")

// slot is one device on the bus.
type slot struct {
	name      string
	addr      uint64
	gsi       uint32
	transport *virtio.MMIO
	irq       *event.Event
}

// bus maps guest-physical windows to device transports. It is filled before the first
// virtual processor runs and read-only from then on.
type bus struct {
	slots   []slot
	next    uint32
	onReset func() // see virtio.MMIO
}

func newBus(onReset func()) *bus { return &bus{next: firstGSI, onReset: onReset} }

// attach gives dev a window, an interrupt and kick descriptors. On failure dev is closed.
func (b *bus) attach(name string, vm hv.VM, mem *memory.Memory, dev virtio.Device) error {
	if b.next == rtcGSI {
		b.next++
	}
	if b.next > lastGSI {
		return errors.Join(fmt.Errorf("attach %s: %w (%d in use)", name, ErrTooManyDevices, len(b.slots)), dev.Close())
	}
	irq, err := event.New()
	if err != nil {
		return errors.Join(fmt.Errorf("attach %s: %w", name, err), dev.Close())
	}
	t, err := virtio.NewMMIO(dev, mem, irq)
	if err != nil {
		return errors.Join(fmt.Errorf("attach %s: %w", name, err), irq.Close(), dev.Close())
	}
	t.OnReset = b.onReset
	s := slot{name: name, addr: mmioBase + uint64(len(b.slots))*mmioWindow, gsi: b.next, transport: t, irq: irq}
	b.next++
	b.slots = append(b.slots, s)
	if err := vm.BindInterrupt(irq.FD(), s.gsi); err != nil {
		return fmt.Errorf("attach %s: %w", name, err)
	}
	for i, k := range t.Kicks() {
		if err := vm.BindKick(s.addr+notifyOffset, uint32(i), k.FD()); err != nil {
			return fmt.Errorf("attach %s: queue %d: %w", name, i, err)
		}
	}
	return nil
}

// access carries out one exit to device memory. Reads outside every window give all
// ones, writes there are ignored, as on a real bus.
func (b *bus) access(e *hv.Exit) {
	if e.Addr >= mmioBase {
		n := (e.Addr - mmioBase) / mmioWindow
		off := (e.Addr - mmioBase) % mmioWindow
		if n < uint64(len(b.slots)) && off+uint64(len(e.Data)) <= mmioWindow {
			if e.Write {
				b.slots[n].transport.Write(off, e.Data)
			} else {
				b.slots[n].transport.Read(off, e.Data)
			}
			return
		}
	}
	if !e.Write {
		for i := range e.Data {
			e.Data[i] = 0xFF
		}
	}
}

// words are the command line words that announce the devices to the kernel.
func (b *bus) words() string {
	var w strings.Builder
	for _, s := range b.slots {
		fmt.Fprintf(&w, " virtio_mmio.device=4K@0x%08x:%d", s.addr, s.gsi)
	}
	return w.String()
}

func (b *bus) pause() {
	for _, s := range b.slots {
		s.transport.Pause()
	}
}

func (b *bus) resume() {
	for _, s := range b.slots {
		s.transport.Resume()
	}
}

func (b *bus) close() error {
	var errs []error
	for _, s := range b.slots {
		errs = append(errs, s.transport.Close(), s.irq.Close())
	}
	b.slots = nil
	return errors.Join(errs...)
}
