package mem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID  = 24 // virtio 1.2 §5.15.1
	queueSize = 16 // Linux sends one request at a time

	// featureUnpluggedInaccessible, §5.15.3, is a promise of the driver's not even to
	// read blocks that are not plugged. A driver that does not give it would let host
	// memory pile up behind such blocks, and is refused.
	featureUnpluggedInaccessible = 1 << 1

	// BlockSize is the size in bytes of what is plugged and unplugged: that of a huge
	// page, which the host can then give and take as one.
	BlockSize = 2 << 20
	// MaxSize bounds a region, bytes: 8 TiB.
	MaxSize = 8 << 40
)

// ErrConfig is wrapped by the errors of Config.Validate and SetTarget.
var ErrConfig = errors.New("invalid memory device configuration")

// Config describes a memory device.
type Config struct {
	// Base and Size are the region in bytes, multiples of BlockSize. It must be one of the
	// guest's memory when the device is activated, and hold nothing.
	Base, Size uint64
	// Logger receives what went wrong; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	if c.Size == 0 || c.Size > MaxSize || c.Size%BlockSize != 0 || c.Base%BlockSize != 0 || c.Base+c.Size < c.Base {
		return fmt.Errorf("%w: %#x bytes at %#x: choose multiples of 2 MiB, up to 8 TiB", ErrConfig, c.Size, c.Base)
	}
	return nil
}

// Sizes are amounts of memory in bytes, multiples of BlockSize.
type Sizes struct {
	Region  uint64 // the most there can be
	Target  uint64 // what the guest should have
	Plugged uint64 // what it has
}

// Device is the memory device. It is a virtio.Device; SetTarget, Sizes, Plugged and
// Driven are for everybody else and safe for concurrent use.
type Device struct {
	base, size uint64
	log        *slog.Logger
	target     atomic.Uint64 // bytes

	mu      sync.Mutex
	blocks  blocks // protected by mu
	plugged uint64 // how many of blocks; protected by mu

	life virtio.Lifecycle[*activation]
}

var _ virtio.Device = (*Device)(nil)

// New makes a device without plugged blocks; its error wraps ErrConfig.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{base: cfg.Base, size: cfg.Size, log: cfg.Logger, blocks: newBlocks(cfg.Size / BlockSize)}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

// ID is 24.
func (d *Device) ID() uint32 { return deviceID }

// Features are F_UNPLUGGED_INACCESSIBLE.
func (d *Device) Features() uint64 { return featureUnpluggedInaccessible }

// QueueSizes is one queue, for requests.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize} }

// configSize is that of struct virtio_mem_config, §5.15.4.
const configSize = 56

// ReadConfig reads struct virtio_mem_config. All of the region is usable at any time.
func (d *Device) ReadConfig(off uint32, p []byte) {
	var config [configSize]byte
	le, s := binary.LittleEndian, d.Sizes()
	le.PutUint64(config[0:], BlockSize)
	le.PutUint64(config[16:], d.base)
	le.PutUint64(config[24:], s.Region)
	le.PutUint64(config[32:], s.Region) // usable
	le.PutUint64(config[40:], s.Plugged)
	le.PutUint64(config[48:], s.Target)
	clear(p)
	if off < configSize {
		copy(p, config[off:])
	}
}

// WriteConfig does nothing: no field is the driver's.
func (d *Device) WriteConfig(uint32, []byte) {}

// SetTarget asks the guest to have so many bytes of the region, which is rounded down to
// whole blocks. The guest may do that later, in part or not at all; it cannot plug more.
// The same target again, unless the guest has it, makes a driver that waits between its
// attempts try at once. An error wraps ErrConfig.
func (d *Device) SetTarget(bytes uint64) error {
	if bytes > d.size {
		return fmt.Errorf("%w: %d bytes: the region has %d", ErrConfig, bytes, d.size)
	}
	bytes -= bytes % BlockSize
	if d.target.Swap(bytes) == bytes && d.Sizes().Plugged == bytes {
		return nil
	}
	d.life.With(func(act *activation, ok bool) {
		if ok {
			act.ConfigChanged()
		}
	})
	return nil
}

// Sizes are the sizes now.
func (d *Device) Sizes() Sizes {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Sizes{Region: d.size, Target: d.target.Load(), Plugged: d.plugged * BlockSize}
}

// Plugged lists the parts of the region that the guest has, ascending and not adjacent:
// what is outside of them is of no account.
func (d *Device) Plugged() (parts []memory.Range) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for first, n := range d.blocks.runs() {
		parts = append(parts, memory.Range{Base: d.base + first*BlockSize, Size: n * BlockSize})
	}
	return parts
}

// Driven reports that the guest has a driver for the device, which is at work.
func (d *Device) Driven() (driven bool) {
	d.life.With(func(_ *activation, ok bool) { driven = ok })
	return driven
}

// Activate starts to serve the queue.
func (d *Device) Activate(a virtio.Activation) error {
	switch {
	case len(a.Queues) != 1 || a.Queues[0] == nil:
		return fmt.Errorf("memory: %w: the driver enabled no queue", virtio.ErrGuest)
	case a.Features&featureUnpluggedInaccessible == 0:
		return fmt.Errorf("memory: %w: the driver does not promise to leave unplugged memory alone", virtio.ErrGuest)
	}
	return d.life.Start(func() (*activation, error) { return startActivation(d, a), nil })
}

// Pause waits until nothing touches guest memory any more.
func (d *Device) Pause() { d.life.Pause() }

// Resume continues where Pause stopped.
func (d *Device) Resume() { d.life.Resume() }

// Reset forgets the driver. Blocks stay as they are, and so does the target: a new driver
// finds the memory that its predecessor had (§5.15.5).
func (d *Device) Reset() { d.life.Reset(nil) }

// Close is Reset for good.
func (d *Device) Close() error { return d.life.Close(nil) }
