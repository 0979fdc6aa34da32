package rng

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID  = 4 // virtio 1.2 §5.4.1
	queueSize = 16

	// maxFill is how many bytes one request gets at most; the driver asks again.
	maxFill = 4096

	// DefaultRate is the rate of a device whose Config says 0: 1 MiB/s.
	DefaultRate = 1 << 20
	// Burst is how many bytes come without delay after a rest.
	Burst = 64 << 10
)

// ErrConfig is wrapped by the errors of Config.Validate.
var ErrConfig = errors.New("invalid entropy device configuration")

// Config describes an entropy device.
type Config struct {
	// Source gives the random bytes; nil is crypto/rand. It must not block for long. The
	// device does not close it.
	Source io.Reader
	// Rate is how many bytes per second the guest gets at most, up to 1 GiB/s; 0 means
	// DefaultRate.
	Rate int
	// Logger receives what went wrong; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	if c.Rate < 0 || c.Rate > 1<<30 {
		return fmt.Errorf("%w: %d bytes per second: choose 1 to 1073741824, or 0 for %d", ErrConfig, c.Rate, DefaultRate)
	}
	return nil
}

// Device is the entropy device. It is a virtio.Device; Served is for everybody else and
// safe for concurrent use.
type Device struct {
	source io.Reader
	rate   int
	log    *slog.Logger
	served atomic.Uint64

	life virtio.Lifecycle[*activation]
}

var _ virtio.Device = (*Device)(nil)

// New makes a device; its error wraps ErrConfig.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{source: cfg.Source, rate: cfg.Rate, log: cfg.Logger}
	if d.source == nil {
		d.source = rand.Reader
	}
	if d.rate == 0 {
		d.rate = DefaultRate
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

// ID is 4.
func (d *Device) ID() uint32 { return deviceID }

// Features are none.
func (d *Device) Features() uint64 { return 0 }

// QueueSizes is one queue.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize} }

// ReadConfig reads zeros: the device has no configuration space.
func (d *Device) ReadConfig(_ uint32, p []byte) { clear(p) }

// WriteConfig does nothing.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts to serve the queue.
func (d *Device) Activate(a virtio.Activation) error {
	if len(a.Queues) != 1 || a.Queues[0] == nil {
		return fmt.Errorf("rng: %w: the driver enabled no queue", virtio.ErrGuest)
	}
	return d.life.Start(func() (*activation, error) { return startActivation(d, a), nil })
}

// Pause waits until nothing touches guest memory any more.
func (d *Device) Pause() { d.life.Pause() }

// Resume continues where Pause stopped.
func (d *Device) Resume() { d.life.Resume() }

// Reset forgets the driver.
func (d *Device) Reset() { d.life.Reset(nil) }

// Close is Reset for good.
func (d *Device) Close() error { return d.life.Close(nil) }

// Served is how many bytes the guest got since New.
func (d *Device) Served() uint64 { return d.served.Load() }
