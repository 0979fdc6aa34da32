package net

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID  = 1   // virtio 1.2 §5.1.1
	queueSize = 256 // of both queues

	receiveQueue, transmitQueue = 0, 1
)

// Features (virtio 1.2 §5.1.3).
const (
	featureChecksum      = 1 << 0 // the driver leaves checksums to the device
	featureGuestChecksum = 1 << 1 // the driver takes frames without them
	featureMTU           = 1 << 3
	featureMAC           = 1 << 5
	featureGuestTSO4     = 1 << 7
	featureGuestTSO6     = 1 << 8
	featureHostTSO4      = 1 << 11
	featureHostTSO6      = 1 << 12
	featureMergeable     = 1 << 15
	featureStatus        = 1 << 16
	featureHostUSO       = 1 << 56

	linkUp = 1 // status field
)

// MinMTU and MaxMTU bound Config.MTU: what IPv6 needs, and what a packet can have.
const (
	MinMTU = 1280
	MaxMTU = 65535
)

// ErrConfig is wrapped by the errors of Config.Validate.
var ErrConfig = errors.New("invalid network device configuration")

// Backend is what the other end of the cable is plugged into.
type Backend interface {
	// Transmit takes a frame of the guest's; MinFrame to MaxFrame bytes whose meaning is
	// up to the guest. The parts are guest memory, which the guest may change meanwhile,
	// and are not valid after the call. It must not block for long.
	Transmit(o Offload, frame [][]byte)
	// Ready says that Deliver may have room again, after it had none. It must not block
	// for long; it may call Deliver.
	Ready()
}

// Config describes a network device.
type Config struct {
	MAC [6]byte // of the guest's interface
	// MTU is told to the guest, MinMTU to MaxMTU bytes of IP packet; 0 leaves it to the
	// guest.
	MTU     uint16
	Backend Backend
	// Egress bounds what the guest sends and Ingress what it receives; nil does not. What
	// is too much waits, nothing is lost.
	Egress, Ingress *Limit
	// Logger receives what the guest did wrong; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	switch {
	case c.Backend == nil:
		return fmt.Errorf("%w: no backend", ErrConfig)
	case c.MAC[0]&1 != 0 || c.MAC == [6]byte{}:
		return fmt.Errorf("%w: %x is not the address of one interface", ErrConfig, c.MAC)
	case c.MTU != 0 && c.MTU < MinMTU:
		return fmt.Errorf("%w: MTU %d: choose %d to %d", ErrConfig, c.MTU, MinMTU, MaxMTU)
	}
	return errors.Join(c.Egress.validate("egress"), c.Ingress.validate("ingress"))
}

// Stats count since New. Bytes are those of frames, without the virtio header.
type Stats struct {
	Sent, SentBytes         uint64 // by the guest
	SentDropped             uint64 // by the guest, and refused
	Received, ReceivedBytes uint64 // by the guest
	ReceivedDropped         uint64 // for the guest, which could not take them
}

// Device is the network device. It is a virtio.Device; Deliver, Flush and Stats are for
// everybody else and safe for concurrent use.
type Device struct {
	mac     [6]byte
	mtu     uint16
	backend Backend
	log     *slog.Logger
	stats   counters
	rx      receiver
	egress  *Limit

	patience time.Duration // of the guest, which was told of small frames by nothing

	life virtio.Lifecycle[*activation] // its lock is before rx.mu
}

type counters struct {
	sent, sentBytes, sentDropped             atomic.Uint64
	received, receivedBytes, receivedDropped atomic.Uint64
}

var _ virtio.Device = (*Device)(nil)

// New makes a device; its error wraps ErrConfig.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{mac: cfg.MAC, mtu: cfg.MTU, backend: cfg.Backend, egress: cfg.Egress, log: cfg.Logger, patience: patience}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.rx.stats, d.rx.ingress = &d.stats, cfg.Ingress
	return d, nil
}

// ID is 1.
func (d *Device) ID() uint32 { return deviceID }

// Features are the address, the link's status, the MTU if Config has one, mergeable
// buffers, and offloads both ways.
func (d *Device) Features() uint64 {
	var f uint64 = featureMAC | featureStatus | featureMergeable |
		featureChecksum | featureHostTSO4 | featureHostTSO6 | featureHostUSO |
		featureGuestChecksum | featureGuestTSO4 | featureGuestTSO6
	if d.mtu != 0 {
		f |= featureMTU
	}
	return f
}

// QueueSizes are one queue to the guest and one from it.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize, queueSize} }

// ReadConfig reads struct virtio_net_config (virtio 1.2 §5.1.4).
func (d *Device) ReadConfig(off uint32, p []byte) {
	var config [12]byte
	copy(config[:], d.mac[:])
	binary.LittleEndian.PutUint16(config[6:], linkUp)
	binary.LittleEndian.PutUint16(config[8:], 1) // pairs of queues
	binary.LittleEndian.PutUint16(config[10:], d.mtu)
	clear(p)
	if off < uint32(len(config)) {
		copy(p, config[off:])
	}
}

// WriteConfig does nothing: a driver with VIRTIO_F_VERSION_1 writes nothing.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts to serve the queues.
func (d *Device) Activate(a virtio.Activation) error {
	if len(a.Queues) != 2 || a.Queues[receiveQueue] == nil || a.Queues[transmitQueue] == nil {
		return fmt.Errorf("net: %w: the driver left a queue disabled", virtio.ErrGuest)
	}
	return d.life.Start(func() (*activation, error) { return startActivation(d, a), nil })
}

// failed reports what the guest did wrong, to the log and the transport.
func (d *Device) failed(fail func(error)) func(error) {
	return func(err error) {
		d.log.Warn("network device needs a reset", "error", err)
		fail(fmt.Errorf("net: %w", err))
	}
}

// Pause waits until nothing touches guest memory any more.
func (d *Device) Pause() { d.life.Pause() }

// Resume continues where Pause stopped.
func (d *Device) Resume() { d.life.Resume() }

// Reset forgets the driver. Frames for the guest are dropped from then on.
func (d *Device) Reset() { d.life.Reset(nil) }

// Close is Reset for good. The device does not use its backend afterwards.
func (d *Device) Close() error { return d.life.Close(nil) }

// Stats is a snapshot of the counters.
func (d *Device) Stats() Stats {
	c := &d.stats
	return Stats{
		Sent: c.sent.Load(), SentBytes: c.sentBytes.Load(), SentDropped: c.sentDropped.Load(),
		Received: c.received.Load(), ReceivedBytes: c.receivedBytes.Load(), ReceivedDropped: c.receivedDropped.Load(),
	}
}
