package virtio

import (
	"errors"

	"github.com/gomsb/gomsb/vmm/memory"
)

// ErrGuest is wrapped by every error that is the guest's fault.
var ErrGuest = errors.New("guest broke the virtio protocol")

// ErrState reports saved state that is damaged, of another version or of another device.
var ErrState = errors.New("invalid device state")

// Feature bits that do not depend on the device type (virtio 1.2 §6).
const (
	FeatureIndirectDesc = 1 << 28
	FeatureEventIdx     = 1 << 29
	FeatureVersion1     = 1 << 32
)

// MaxQueueSize is the largest queue a device may offer (virtio 1.2 §2.7).
const MaxQueueSize = 32768

// Device is the type-specific half of a virtio device. The transport owns the status,
// the features and the queues' registers, and calls the methods one at a time; only
// Close may come at any time after New.
type Device interface {
	// ID is the device type (virtio 1.2 §5).
	ID() uint32
	// Features are the offered type-specific bits; the transport adds its own.
	Features() uint64
	// QueueSizes are the maximum sizes of the queues, powers of two.
	QueueSizes() []uint16
	// ReadConfig fills p from the configuration space at off; bytes beyond its end are
	// zero.
	ReadConfig(off uint32, p []byte)
	// WriteConfig stores p at off of the configuration space as far as it is writable.
	WriteConfig(off uint32, p []byte)
	// Activate starts the device at DRIVER_OK. It must not block.
	Activate(Activation) error
	// Pause returns when no goroutine of the device touches guest memory; Resume lets
	// them go on. Both do nothing on a device that is not active.
	Pause()
	Resume()
	// Reset stops the device's goroutines, waits for requests in flight and forgets the
	// driver, also one that RestoreState told it of; the device may be activated again.
	Reset()
	// SaveState captures what the device knows beyond its queues, while paused or not
	// active. RestoreState is its inverse before Activate.
	SaveState() ([]byte, error)
	RestoreState([]byte) error
	// Close is Reset for good: it frees everything. It is idempotent.
	Close() error
}

// Activation is what a device gets to work with until Reset.
type Activation struct {
	Memory *memory.Memory
	// Features are the negotiated ones.
	Features uint64
	// Queues by number; nil where the driver left a queue disabled.
	Queues []*Queue
	// ConfigChanged tells the driver that the configuration space changed.
	ConfigChanged func()
	// Fail reports that the guest broke the protocol: DEVICE_NEEDS_RESET.
	Fail func(error)
}
