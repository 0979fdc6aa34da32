package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/event"
	"github.com/gomsb/gomsb/vmm/memory"
)

// Register offsets of the memory-mapped transport, version 2 (virtio 1.2 §4.2.2).
const (
	regMagic            = 0x000
	regVersion          = 0x004
	regDeviceID         = 0x008
	regVendorID         = 0x00c
	regDeviceFeatures   = 0x010
	regDeviceFeatSel    = 0x014
	regDriverFeatures   = 0x020
	regDriverFeatSel    = 0x024
	regQueueSel         = 0x030
	regQueueNumMax      = 0x034
	regQueueNum         = 0x038
	regQueueReady       = 0x044
	regQueueNotify      = 0x050
	regInterruptStatus  = 0x060
	regInterruptACK     = 0x064
	regStatus           = 0x070
	regQueueDescLow     = 0x080
	regQueueDescHigh    = 0x084
	regQueueDriverLow   = 0x090
	regQueueDriverHigh  = 0x094
	regQueueDeviceLow   = 0x0a0
	regQueueDeviceHigh  = 0x0a4
	regSHMLenLow        = 0x0b0
	regSHMBaseHigh      = 0x0bc
	regConfigGeneration = 0x0fc
	regConfig           = 0x100

	magicValue = 0x74726976 // "virt"

	// "MGSB". Drivers may take it for a promise: interrupts are edges, none of which waits
	// for the acknowledgement of an earlier one, and one for a change of the configuration
	// comes again until it is acknowledged. So they need not read the interrupt status as
	// long as the queues hold something (kernel/patches/0010-mmio-edges.patch).
	vendorID = 0x4253474d
)

// Device status bits (virtio 1.2 §2.1).
const (
	StatusAcknowledge = 1
	StatusDriver      = 2
	StatusDriverOK    = 4
	StatusFeaturesOK  = 8
	StatusNeedsReset  = 64
	StatusFailed      = 128

	driverStatus = StatusAcknowledge | StatusDriver | StatusDriverOK | StatusFeaturesOK | StatusFailed
)

// maxQueues bounds the queues of one device.
const maxQueues = 255

const (
	interruptUsed   = 1 // a buffer was used
	interruptConfig = 2 // the configuration changed
)

// Interrupt raises the device's interrupt line. *event.Event, bound to the hypervisor,
// is one.
type Interrupt interface{ Signal() error }

// MMIO is the memory-mapped transport of one device, version 2 (virtio 1.2 §4.2). Read
// and Write may be called from any virtual processor.
type MMIO struct {
	dev   Device
	mem   *memory.Memory
	irq   Interrupt
	kicks []*event.Event
	sizes []uint16
	feats uint64 // offered

	// OnReset, unless nil, is called when the driver resets a device that it used, as
	// kernels do on their way out. It must not block, and be set before the first access.
	OnReset func()

	interrupts atomic.Uint32
	generation atomic.Uint32
	changed    reminder // of a change of the configuration that is not acknowledged

	failing sync.Mutex // after mu
	broken  error      // why NEEDS_RESET, nil while all is well; protected by failing
	epoch   uint64     // number of resets; written under mu and failing

	mu       sync.Mutex
	status   uint32        // without NEEDS_RESET; protected by mu
	acked    uint64        // driver's features; protected by mu
	devSel   uint32        // protected by mu
	drvSel   uint32        // protected by mu
	queueSel uint32        // protected by mu
	queues   []queueConfig // protected by mu
	live     []*Queue      // while active; protected by mu
	active   bool          // the device was activated, or has restored state; protected by mu
	closed   bool          // protected by mu
}

type queueConfig struct {
	rings
	ready bool
}

// NewMMIO puts a transport in front of dev, which it owns from then on. Interrupts go to
// irq.
func NewMMIO(dev Device, mem *memory.Memory, irq Interrupt) (*MMIO, error) {
	if n := len(dev.QueueSizes()); n > maxQueues {
		return nil, fmt.Errorf("device %d offers %d queues, at most %d are possible", dev.ID(), n, maxQueues)
	}
	t := &MMIO{dev: dev, mem: mem, irq: irq, sizes: dev.QueueSizes(), feats: dev.Features() | FeatureVersion1 | FeatureIndirectDesc | FeatureEventIdx}
	for i, n := range t.sizes {
		if n == 0 || n&(n-1) != 0 || n > MaxQueueSize {
			return nil, errors.Join(fmt.Errorf("device %d offers queue %d with size %d", dev.ID(), i, n), t.closeKicks())
		}
		k, err := event.New()
		if err != nil {
			return nil, errors.Join(err, t.closeKicks())
		}
		t.kicks = append(t.kicks, k)
	}
	t.queues = make([]queueConfig, len(t.sizes))
	t.live = make([]*Queue, len(t.sizes))
	t.changed.call = t.raiseAgain
	return t, nil
}

func (t *MMIO) closeKicks() error {
	var errs []error
	for _, k := range t.kicks {
		errs = append(errs, k.Close())
	}
	return errors.Join(errs...)
}

// Kicks are the events, one for each queue, that a notification of the queue signals.
func (t *MMIO) Kicks() []*event.Event { return t.kicks }

// Failure is why the device needs a reset, nil if it does not.
func (t *MMIO) Failure() error {
	t.failing.Lock()
	defer t.failing.Unlock()
	return t.broken
}

// Read carries out a load of len(p) bytes at off of the register window. Registers take
// aligned 32-bit loads only; anything else reads as zero (virtio 1.2 §4.2.2.2).
func (t *MMIO) Read(off uint64, p []byte) {
	clear(p)
	if off >= regConfig {
		if off-regConfig < 1<<32 {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.dev.ReadConfig(uint32(off-regConfig), p)
		}
		return
	}
	if len(p) == 4 && off%4 == 0 {
		binary.LittleEndian.PutUint32(p, t.load(off))
	}
}

func (t *MMIO) load(off uint64) uint32 {
	switch off {
	case regMagic:
		return magicValue
	case regVersion:
		return 2
	case regDeviceID:
		return t.dev.ID()
	case regVendorID:
		return vendorID
	case regInterruptStatus:
		return t.interrupts.Load()
	case regConfigGeneration:
		return t.generation.Load()
	}
	if off >= regSHMLenLow && off <= regSHMBaseHigh {
		return 0xffffffff // no shared memory regions
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch off {
	case regDeviceFeatures:
		return half(t.feats, t.devSel)
	case regStatus:
		s := t.status
		if t.Failure() != nil {
			s |= StatusNeedsReset
		}
		return s
	case regQueueNumMax:
		if int64(t.queueSel) < int64(len(t.sizes)) {
			return uint32(t.sizes[t.queueSel])
		}
	case regQueueReady:
		if q := t.selected(); q != nil && q.ready {
			return 1
		}
	}
	return 0
}

func half(v uint64, sel uint32) uint32 {
	switch sel {
	case 0:
		return uint32(v)
	case 1:
		return uint32(v >> 32)
	}
	return 0
}

// selected is the queue that QueueSel names, nil if there is none.
func (t *MMIO) selected() *queueConfig {
	if int64(t.queueSel) < int64(len(t.queues)) {
		return &t.queues[t.queueSel]
	}
	return nil
}

// Write carries out a store at off of the register window. Anything but an aligned
// 32-bit store to a writable register is ignored.
func (t *MMIO) Write(off uint64, p []byte) {
	if off >= regConfig {
		if off-regConfig < 1<<32 {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.dev.WriteConfig(uint32(off-regConfig), p)
		}
		return
	}
	if len(p) != 4 || off%4 != 0 {
		return
	}
	v := binary.LittleEndian.Uint32(p)
	switch off {
	case regQueueNotify:
		// Usually KVM signals the kick and this is never reached.
		if int64(v) < int64(len(t.kicks)) {
			_ = t.kicks[v].Signal() // fails only after Close
		}
	case regInterruptACK:
		t.interrupts.And(^v)
	default:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.store(off, v)
	}
}

// store changes a register that only the driver's initialisation uses.
func (t *MMIO) store(off uint64, v uint32) {
	switch off {
	case regDeviceFeatSel:
		t.devSel = v
	case regDriverFeatSel:
		t.drvSel = v
	case regQueueSel:
		t.queueSel = v
	case regStatus:
		t.setStatus(v)
	case regDriverFeatures:
		// Frozen once the device has agreed to them (§3.1.1 step 5).
		if t.status&StatusFeaturesOK == 0 && t.status&StatusDriver != 0 {
			switch t.drvSel {
			case 0:
				t.acked = t.acked&^0xffffffff | uint64(v)
			case 1:
				t.acked = t.acked&0xffffffff | uint64(v)<<32
			}
		}
	default:
		t.storeQueue(off, v)
	}
}

// storeQueue changes the selected queue. A queue that is ready is frozen, and all are
// between DRIVER_OK and reset (CVE-2026-5747 was the lack of this).
func (t *MMIO) storeQueue(off uint64, v uint32) {
	q := t.selected()
	if q == nil || t.status&StatusDriverOK != 0 || t.status&StatusFeaturesOK == 0 {
		return
	}
	if off == regQueueReady {
		q.ready = v&1 != 0 && q.size != 0
		return
	}
	if q.ready {
		return
	}
	switch off {
	case regQueueNum:
		if v != 0 && v <= uint32(t.sizes[t.queueSel]) && v&(v-1) == 0 {
			q.size = uint16(v)
		} else {
			q.size = 0 // such a queue cannot become ready
		}
	case regQueueDescLow:
		setLow(&q.desc, v)
	case regQueueDescHigh:
		setHigh(&q.desc, v)
	case regQueueDriverLow:
		setLow(&q.avail, v)
	case regQueueDriverHigh:
		setHigh(&q.avail, v)
	case regQueueDeviceLow:
		setLow(&q.used, v)
	case regQueueDeviceHigh:
		setHigh(&q.used, v)
	}
}

func setLow(a *uint64, v uint32)  { *a = *a&^0xffffffff | uint64(v) }
func setHigh(a *uint64, v uint32) { *a = *a&0xffffffff | uint64(v)<<32 }

// setStatus moves the status machine of §3.1.1. Bits are only ever added; 0 resets.
func (t *MMIO) setStatus(v uint32) {
	if v == 0 {
		used := t.active
		t.reset()
		if used && t.OnReset != nil {
			t.OnReset()
		}
		return
	}
	v &= driverStatus
	if t.closed || v&t.status != t.status {
		return // a bit was taken back without a reset
	}
	added := v &^ t.status
	switch {
	case added&StatusDriver != 0 && v&StatusAcknowledge == 0,
		added&StatusFeaturesOK != 0 && v&StatusDriver == 0,
		added&StatusDriverOK != 0 && t.status&StatusFeaturesOK == 0:
		return // out of order
	}
	if added&StatusFeaturesOK != 0 && (t.acked&FeatureVersion1 == 0 || t.acked&^t.feats != 0) {
		v &^= StatusFeaturesOK // the driver reads it back and gives up
	}
	t.status = v
	if added&StatusDriverOK != 0 && v&StatusFailed == 0 {
		if err := t.activate(nil); err != nil {
			t.fail(err, t.epoch)
		}
	}
}

// activate starts the device on the queues that the driver has set up. saved positions
// them after a restore.
func (t *MMIO) activate(saved []queueState) error {
	for i := range t.queues {
		if !t.queues[i].ready {
			t.live[i] = nil
			continue
		}
		q, err := newQueue(t.mem, t.queues[i].rings, t.acked, t.kicks[i], t.raiseUsed)
		if err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		if saved != nil {
			if err := q.restore(saved[i]); err != nil {
				return fmt.Errorf("queue %d: %w", i, err)
			}
		}
		t.live[i] = q
	}
	t.active = true
	epoch := t.epoch // changes only under mu
	return t.dev.Activate(Activation{
		Memory: t.mem, Features: t.acked, Queues: t.live, ConfigChanged: t.raiseConfig,
		Fail: func(err error) { t.fail(err, epoch) },
	})
}

func (t *MMIO) raiseUsed() error {
	t.interrupts.Or(interruptUsed)
	return t.irq.Signal()
}

func (t *MMIO) raiseConfig() {
	t.generation.Add(1)
	t.interrupts.Or(interruptConfig)
	_ = t.irq.Signal() // fails only after Close
	t.changed.start()
}

// raiseAgain raises the interrupt for a change that the driver has not acknowledged.
func (t *MMIO) raiseAgain() (again bool) {
	if t.interrupts.Load()&interruptConfig == 0 {
		return false
	}
	return t.irq.Signal() == nil // it fails only after Close
}

// fail marks the device as in need of a reset, because of err, unless there was one since
// the epoch.
func (t *MMIO) fail(err error, epoch uint64) {
	t.failing.Lock()
	first := t.broken == nil && t.epoch == epoch
	if first {
		t.broken = err
	}
	t.failing.Unlock()
	if first {
		t.raiseConfig()
	}
}

// reset forgets the driver. Requests in flight are over when it returns.
func (t *MMIO) reset() {
	t.failing.Lock()
	t.epoch++ // what fails from now on belongs to the past
	t.broken = nil
	t.failing.Unlock()
	if t.active {
		t.dev.Reset()
		t.active = false
	}
	t.status, t.acked, t.devSel, t.drvSel, t.queueSel = 0, 0, 0, 0, 0
	clear(t.queues)
	t.live = make([]*Queue, len(t.sizes)) // the device may still look at the old one
	t.interrupts.Store(0)
	t.changed.stop()
}

// Pause returns when the device touches no guest memory; Resume lets it go on.
func (t *MMIO) Pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active {
		t.dev.Pause()
	}
}

// Resume undoes Pause.
func (t *MMIO) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active {
		t.dev.Resume()
	}
}

// Close closes the device and its kicks. It is idempotent.
func (t *MMIO) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.reset()
	t.closed = true
	return errors.Join(t.dev.Close(), t.closeKicks())
}
