package balloon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID = 5 // virtio 1.2 §5.5.1

	// Feature bits, §5.5.3.
	featureStats        = 1 << 1
	featureDeflateOnOOM = 1 << 2
	featureReporting    = 1 << 5

	// Queues. That of reports follows the last of those before it that the driver has
	// negotiated.
	inflateQueue, deflateQueue, statsQueue = 0, 1, 2

	// queueSize is that of all queues: which of them is for reports is up to the driver,
	// and Linux reports 32 ranges at a time.
	queueSize = 32

	// pageShift is that of a page number, whatever the guest's pages are (§5.5.6).
	pageShift = 12

	minInterval = time.Millisecond
)

// ErrConfig is wrapped by the errors of Config.Validate and SetTarget.
var ErrConfig = errors.New("invalid balloon configuration")

// Config describes a balloon device.
type Config struct {
	// StatsInterval is how often the guest is asked for statistics, 1 ms at least; 0
	// means never.
	StatsInterval time.Duration
	// Logger receives what the guest did wrong; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	if c.StatsInterval != 0 && c.StatsInterval < minInterval {
		return fmt.Errorf("%w: statistics every %v: choose %v or more, or 0 for never", ErrConfig, c.StatsInterval, minInterval)
	}
	return nil
}

// Counters count since New.
type Counters struct {
	Inflated uint64 // bytes that the guest put into the balloon
	Deflated uint64 // bytes that it took out again
	Reported uint64 // bytes that it reported as free
	Ignored  uint64 // pages that are no RAM, or too many for one request
}

type counters struct{ inflated, deflated, reported, ignored atomic.Uint64 }

// Device is the balloon. It is a virtio.Device; SetTarget, Target, Actual, Stats and
// Counters are for everybody else and safe for concurrent use.
type Device struct {
	interval time.Duration
	log      *slog.Logger
	target   atomic.Uint32 // pages
	actual   atomic.Uint32 // pages, as the driver says
	counters counters

	statsMu sync.Mutex
	stats   Stats // protected by statsMu

	life  virtio.Lifecycle[*activation]
	saved heldBuffer // for the next Activate, after RestoreState; protected by life
}

var _ virtio.Device = (*Device)(nil)

// New makes a device; its error wraps ErrConfig.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{interval: cfg.StatsInterval, log: cfg.Logger}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

// ID is 5.
func (d *Device) ID() uint32 { return deviceID }

// Features are F_DEFLATE_ON_OOM and F_PAGE_REPORTING, and F_STATS_VQ if Config has an
// interval.
func (d *Device) Features() uint64 {
	if d.interval == 0 {
		return featureDeflateOnOOM | featureReporting
	}
	return featureDeflateOnOOM | featureReporting | featureStats
}

// QueueSizes are those to inflate, to deflate, for statistics if there are any, and for
// reports.
func (d *Device) QueueSizes() []uint16 {
	if d.interval == 0 {
		return []uint16{queueSize, queueSize, queueSize}
	}
	return []uint16{queueSize, queueSize, queueSize, queueSize}
}

// ReadConfig reads struct virtio_balloon_config (virtio 1.2 §5.5.4).
func (d *Device) ReadConfig(off uint32, p []byte) {
	var config [8]byte
	binary.LittleEndian.PutUint32(config[0:], d.target.Load())
	binary.LittleEndian.PutUint32(config[4:], d.actual.Load())
	clear(p)
	if off < uint32(len(config)) {
		copy(p, config[off:])
	}
}

// WriteConfig stores the size of the balloon, the driver's only field.
func (d *Device) WriteConfig(off uint32, p []byte) {
	if off == 4 && len(p) == 4 {
		d.actual.Store(binary.LittleEndian.Uint32(p))
	}
}

// SetTarget asks the guest to bring the balloon to a size in bytes, which is rounded down
// to whole pages. The guest may do that later, in part or not at all. An error wraps
// ErrConfig.
func (d *Device) SetTarget(bytes uint64) error {
	pages := bytes >> pageShift
	if pages > math.MaxUint32 {
		return fmt.Errorf("%w: balloon of %d bytes: choose less than 16 TiB", ErrConfig, bytes)
	}
	if d.target.Swap(uint32(pages)) == uint32(pages) {
		return nil
	}
	d.life.With(func(act *activation, ok bool) {
		if ok {
			act.ConfigChanged()
		}
	})
	return nil
}

// Target is the size that the balloon should have, in bytes.
func (d *Device) Target() uint64 { return uint64(d.target.Load()) << pageShift }

// Actual is the size that the guest says the balloon has, in bytes.
func (d *Device) Actual() uint64 { return uint64(d.actual.Load()) << pageShift }

// Counters is a snapshot of the counters.
func (d *Device) Counters() Counters {
	c := &d.counters
	return Counters{Inflated: c.inflated.Load(), Deflated: c.deflated.Load(), Reported: c.reported.Load(), Ignored: c.ignored.Load()}
}

// Activate starts to serve the queues.
func (d *Device) Activate(a virtio.Activation) error {
	return d.life.Start(func() (*activation, error) {
		act, err := newActivation(d, a, d.saved)
		if err == nil {
			d.saved = heldBuffer{}
			act.start()
		}
		return act, err
	})
}

// Pause waits until nothing touches guest memory any more.
func (d *Device) Pause() { d.life.Pause() }

// Resume continues where Pause stopped.
func (d *Device) Resume() { d.life.Resume() }

// Reset forgets the driver and what it said. The target stays.
func (d *Device) Reset() { d.life.Reset(d.forget) }

// Close is Reset for good.
func (d *Device) Close() error {
	return d.life.Close(func() error {
		d.forget()
		return nil
	})
}

func (d *Device) forget() {
	d.saved = heldBuffer{}
	d.actual.Store(0)
	d.setStats(Stats{})
}
