package fs

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID = 26 // virtio 1.2 §5.11.1

	tagSize    = 36
	configSize = tagSize + 4 // struct virtio_fs_config, §5.11.4

	// hiprioSize is for requests of a header and little more.
	hiprioSize = 128
	// requestSize lets one request have 256 pages of data, which is the most that Linux
	// asks for, with room for its other parts.
	requestSize = 512

	// MaxQueues is the largest number of request queues.
	MaxQueues = 16
)

// Config describes a file system device.
type Config struct {
	// Tag is the name by which the guest mounts the file system, 1 to 36 bytes without
	// NUL.
	Tag string
	// Backend serves the requests. The device that New returns owns it.
	Backend Backend
	// Queues is the number of request queues, 1 to MaxQueues; 0 is 1.
	Queues int
	// Logger receives what the guest did wrong; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	switch {
	case c.Backend == nil:
		return fmt.Errorf("%w: no backend", ErrConfig)
	case len(c.Tag) < 1 || len(c.Tag) > tagSize || strings.ContainsRune(c.Tag, 0):
		return fmt.Errorf("%w: tag %q is not 1 to %d bytes without NUL", ErrConfig, c.Tag, tagSize)
	case c.Queues < 0 || c.Queues > MaxQueues:
		return fmt.Errorf("%w: %d request queues: choose 1 to %d", ErrConfig, c.Queues, MaxQueues)
	}
	return nil
}

// Stats counts since New.
type Stats struct {
	Requests uint64 // that were completed, those without an answer included
	Aside    uint64 // times that a request had to wait for another one
}

type counters struct{ requests, aside atomic.Uint64 }

// Device is the file system device. It is a virtio.Device; Stats is for everybody else
// and safe for concurrent use.
type Device struct {
	backend Backend
	config  [configSize]byte
	queues  int // of requests
	log     *slog.Logger
	stats   counters

	life virtio.Lifecycle[*activation]
}

var _ virtio.Device = (*Device)(nil)

// New makes a device; its error wraps ErrConfig and leaves the backend to the caller.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{backend: cfg.Backend, queues: max(cfg.Queues, 1), log: cfg.Logger}
	copy(d.config[:tagSize], cfg.Tag)
	binary.LittleEndian.PutUint32(d.config[tagSize:], uint32(d.queues))
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

// ID is 26.
func (d *Device) ID() uint32 { return deviceID }

// Features are none: VIRTIO_FS_F_NOTIFICATION has no driver.
func (d *Device) Features() uint64 { return 0 }

// QueueSizes are those of the high priority queue and the request queues.
func (d *Device) QueueSizes() []uint16 {
	sizes := []uint16{hiprioSize}
	for range d.queues {
		sizes = append(sizes, requestSize)
	}
	return sizes
}

// ReadConfig reads struct virtio_fs_config (virtio 1.2 §5.11.4).
func (d *Device) ReadConfig(off uint32, p []byte) {
	clear(p)
	if off < configSize {
		copy(p, d.config[off:])
	}
}

// WriteConfig does nothing: the configuration is read-only.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts to serve the queues. A driver may leave some of the request queues
// alone, but not all.
func (d *Device) Activate(a virtio.Activation) error {
	usable := 0
	for _, q := range a.Queues[min(1, len(a.Queues)):] {
		if q != nil {
			usable++
		}
	}
	if usable == 0 || len(a.Queues) != 1+d.queues {
		return fmt.Errorf("fs: %w: the driver enabled no request queue", virtio.ErrGuest)
	}
	return d.life.Start(func() (*activation, error) {
		act, err := startActivation(d, a)
		if err != nil {
			return nil, fmt.Errorf("fs: %w", err)
		}
		return act, nil
	})
}

// Pause waits until no request is in flight, but for those that wait for a lock.
func (d *Device) Pause() { d.life.Pause() }

// Resume continues where Pause stopped.
func (d *Device) Resume() { d.life.Resume() }

// Reset waits for the requests in flight, gives up those that wait for a lock, and ends
// the session.
func (d *Device) Reset() { d.life.Reset(d.backend.Reset) }

// Close is Reset; then it closes the backend.
func (d *Device) Close() error {
	return d.life.Close(func() error {
		d.backend.Reset()
		return d.backend.Close()
	})
}

// Stats is a snapshot of the counters.
func (d *Device) Stats() Stats {
	return Stats{Requests: d.stats.requests.Load(), Aside: d.stats.aside.Load()}
}

// tag is the tag for the log.
func (d *Device) tag() string { return strings.TrimRight(string(d.config[:tagSize]), "\x00") }
