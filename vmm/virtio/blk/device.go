package blk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID = 2 // virtio 1.2 §5.2.1

	// Feature bits, §5.2.3.
	featureSegMax      = 1 << 2
	featureReadOnly    = 1 << 5
	featureBlkSize     = 1 << 6
	featureFlush       = 1 << 9
	featureDiscard     = 1 << 13
	featureWriteZeroes = 1 << 14

	queueSize = 256
	segMax    = queueSize - 2 // a header and a status go with the data

	// One request of these kinds, so that none keeps a pause waiting for long.
	maxRanges         = 16
	maxDiscardSectors = 1 << 22 // 2 GiB
	maxZeroSectors    = 1 << 17 // 64 MiB
	// discardAlign is in sectors: the host gives up whole pages only.
	discardAlign = 8

	serialSize = 20
)

// Config describes a block device.
type Config struct {
	// Backend holds the disk. The device that New returns owns it.
	Backend Backend
	// ReadOnly keeps the guest from changing the disk; so does a read-only Backend.
	ReadOnly bool
	// Serial is the serial number that the guest reads, 0 to 20 bytes without NUL.
	Serial string
	// Volatile reports that nobody wants the content after this run, as for the root of a
	// sandbox that is removed when it ends: then nothing is flushed. nil is never.
	Volatile func() bool
	// Logger receives what the guest did wrong and what the backend could not do; nil
	// discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	switch {
	case c.Backend == nil:
		return fmt.Errorf("%w: no backend", ErrConfig)
	case len(c.Serial) > serialSize || strings.ContainsRune(c.Serial, 0):
		return fmt.Errorf("%w: serial %q is not 0 to %d bytes without NUL", ErrConfig, c.Serial, serialSize)
	}
	if _, ok := c.Backend.(parked); ok {
		return nil
	}
	if n := c.Backend.Size(); n == 0 || n%SectorSize != 0 || n > math.MaxInt64 {
		return fmt.Errorf("%w: disk of %d bytes is not a positive number of sectors of %d bytes", ErrConfig, n, SectorSize)
	}
	return nil
}

// Stats counts since New.
type Stats struct {
	Read    uint64 // bytes that the guest read
	Written uint64 // bytes that the guest wrote
	Failed  uint64 // requests that ended with an error
}

type counters struct{ read, written, failed atomic.Uint64 }

// Device is the block device. It is a virtio.Device; Stats is for everybody else and
// safe for concurrent use.
type Device struct {
	backend  Backend
	try      tryReader // backend, if it is one
	size     uint64    // bytes
	readOnly bool
	serial   [serialSize]byte
	log      *slog.Logger
	lastLog  atomic.Int64 // unix nanoseconds
	stats    counters
	dirty    atomic.Bool // written since the last flush
	inserted atomic.Bool // restored with a disk, of a saved device that was parked
	volatile func() bool // never nil

	life virtio.Lifecycle[*activation]
}

var _ virtio.Device = (*Device)(nil)

// New makes a device; its error wraps ErrConfig and leaves the backend to the caller.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{backend: cfg.Backend, size: cfg.Backend.Size(), readOnly: cfg.ReadOnly || cfg.Backend.ReadOnly(), volatile: cfg.Volatile, log: cfg.Logger}
	if d.volatile == nil {
		d.volatile = func() bool { return false }
	}
	d.try, _ = cfg.Backend.(tryReader)
	copy(d.serial[:], cfg.Serial)
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

// ID is 2.
func (d *Device) ID() uint32 { return deviceID }

// Features are F_SEG_MAX and F_BLK_SIZE, and F_RO or F_FLUSH, F_DISCARD and
// F_WRITE_ZEROES.
func (d *Device) Features() uint64 {
	if d.readOnly {
		return featureSegMax | featureBlkSize | featureReadOnly
	}
	return featureSegMax | featureBlkSize | featureFlush | featureDiscard | featureWriteZeroes
}

// QueueSizes is one queue.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize} }

// ReadConfig reads struct virtio_blk_config (virtio 1.2 §5.2.4).
func (d *Device) ReadConfig(off uint32, p []byte) {
	var config [60]byte
	le := binary.LittleEndian
	le.PutUint64(config[0:], d.size/SectorSize)
	le.PutUint32(config[12:], segMax)
	le.PutUint32(config[20:], SectorSize)
	if !d.readOnly {
		le.PutUint32(config[36:], maxDiscardSectors)
		le.PutUint32(config[40:], maxRanges)
		le.PutUint32(config[44:], discardAlign)
		le.PutUint32(config[48:], maxZeroSectors)
		le.PutUint32(config[52:], maxRanges)
		config[56] = 1 // write_zeroes_may_unmap
	}
	clear(p)
	if off < uint32(len(config)) {
		copy(p, config[off:])
	}
}

// WriteConfig does nothing: VIRTIO_BLK_F_CONFIG_WCE is not offered.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts to serve the queue.
func (d *Device) Activate(a virtio.Activation) error {
	if len(a.Queues) != 1 || a.Queues[0] == nil {
		return fmt.Errorf("blk: %w: the driver enabled no queue", virtio.ErrGuest)
	}
	err := d.life.Start(func() (*activation, error) { return startActivation(d, a), nil })
	if err == nil && d.inserted.Swap(false) {
		a.ConfigChanged()
	}
	return err
}

// Pause waits until no request is in flight.
func (d *Device) Pause() { d.life.Pause() }

// Resume continues where Pause stopped.
func (d *Device) Resume() { d.life.Resume() }

// Reset waits for the requests in flight and forgets the driver.
func (d *Device) Reset() { d.life.Reset(nil) }

// Close is Reset; then it flushes what the guest has written since its last flush, and
// closes the backend.
func (d *Device) Close() error {
	return d.life.Close(func() (err error) {
		if d.dirty.Load() && !d.volatile() {
			err = d.backend.Flush()
		}
		return errors.Join(err, d.backend.Close())
	})
}

// Stats is a snapshot of the counters.
func (d *Device) Stats() Stats {
	return Stats{Read: d.stats.read.Load(), Written: d.stats.written.Load(), Failed: d.stats.failed.Load()}
}

// logInterval is the least time between two log lines that the guest caused.
const logInterval = 5 * time.Second

// complain logs a request that failed, but not more often than every logInterval.
func (d *Device) complain(h header, err error) {
	now, last := time.Now().UnixNano(), d.lastLog.Load()
	if now-last < int64(logInterval) || !d.lastLog.CompareAndSwap(last, now) {
		return
	}
	if errors.Is(err, syscall.ENOSPC) {
		d.log.Warn("the host's disk is full: the guest gets an I/O error, and may not write to the file system again before the next start, which needs room", "type", uint32(h.kind), "sector", h.sector, "error", err)
		return
	}
	d.log.Warn("block request failed", "type", uint32(h.kind), "sector", h.sector, "error", err)
}
