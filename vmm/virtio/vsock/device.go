package vsock

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID      = 19     // virtio 1.2 §5.10.1
	featureStream = 1 << 0 // VIRTIO_VSOCK_F_STREAM

	rxQueue, txQueue, eventQueue = 0, 1, 2

	// DefaultMaxConns is the number of connections of a device whose Config says 0.
	DefaultMaxConns = 1023

	// logInterval is the least time between two log lines that the guest caused.
	logInterval = 5 * time.Second
)

// Config describes a socket device.
type Config struct {
	// GuestCID is the guest's context ID, 3 to 2^32-2.
	GuestCID uint64
	// Listener decides on a connection from the guest to port of the host (CID 2): true
	// takes c over, false refuses it. It runs on the goroutine that serves the guest's
	// packets: it must return at once, and must hand c to another goroutine before it
	// is read or written. Nil refuses all.
	Listener func(port uint32, c *Conn) bool
	// MaxConns bounds the connections, also those in the course of closing;
	// 0 means DefaultMaxConns. More are refused.
	MaxConns int
	// Logger receives what the guest did wrong; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	if c.GuestCID <= hostCID || c.GuestCID >= 1<<32-1 {
		return fmt.Errorf("%w: guest CID %d: choose 3 to 4294967294", ErrConfig, c.GuestCID)
	}
	if c.MaxConns < 0 || c.MaxConns > 1<<20 {
		return fmt.Errorf("%w: %d connections: choose 0 to 1048576", ErrConfig, c.MaxConns)
	}
	return nil
}

// Stats counts since New.
type Stats struct {
	Conns    int    // in the table now
	Received uint64 // bytes of payload from the guest
	Sent     uint64 // bytes of payload to the guest
	Dropped  uint64 // packets ignored: bad addresses or lengths
	Refused  uint64 // resets for packets of no connection
	Killed   uint64 // connections broken off for what the guest did
}

type counters struct {
	received, sent, dropped, refused, killed atomic.Uint64
}

// Device is the socket device. It is a virtio.Device; Dial, Stats and the connections
// are for everybody else and safe for concurrent use.
type Device struct {
	cid      uint64
	listener func(port uint32, c *Conn) bool
	log      *slog.Logger
	lastLog  atomic.Int64  // unix nanoseconds
	linger   time.Duration // lingerTime but in tests

	table  table
	outbox outbox
	spares pool
	stats  counters

	rx rx
	tx tx

	mu      sync.Mutex
	active  *activation // nil before Activate and after Reset; written under mu
	restore atomic.Bool // RestoreState was called: the next Activate sends TRANSPORT_RESET
}

// activation is what Activate set up and Reset takes down.
type activation struct {
	queues []*virtio.Queue
	fail   func(error)
	broken atomic.Bool // the guest broke a queue; nothing is served any more
	stop   atomic.Bool // goroutines shall end
	wg     sync.WaitGroup
}

var _ virtio.Device = (*Device)(nil)

// New makes a device; its error wraps ErrConfig.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{cid: cfg.GuestCID, listener: cfg.Listener, log: cfg.Logger, linger: lingerTime}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.table.limit = cfg.MaxConns
	if d.table.limit == 0 {
		d.table.limit = DefaultMaxConns
	}
	d.table.conns = make(map[key]*Conn)
	// A guest may remember ports of an earlier device with this CID for a while.
	d.table.nextPort = firstPort + rand.Uint32N(1<<31)
	return d, nil
}

// ID is 19.
func (d *Device) ID() uint32 { return deviceID }

// Features are VIRTIO_VSOCK_F_STREAM.
func (d *Device) Features() uint64 { return featureStream }

// QueueSizes are those of rx, tx and event. Linux fills the rx queue with 4 KiB
// buffers: 256 hold as much as a connection's usual credit and a little more.
func (d *Device) QueueSizes() []uint16 { return []uint16{256, 256, 16} }

// ReadConfig reads guest_cid, 64 bits little endian.
func (d *Device) ReadConfig(off uint32, p []byte) {
	var config [8]byte
	binary.LittleEndian.PutUint64(config[:], d.cid)
	clear(p)
	if off < uint32(len(config)) {
		copy(p, config[off:])
	}
}

// WriteConfig does nothing: the configuration is read-only.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts to serve the queues. A driver that left rx or tx out gets an error.
func (d *Device) Activate(a virtio.Activation) error {
	if len(a.Queues) != 3 || a.Queues[rxQueue] == nil || a.Queues[txQueue] == nil {
		return fmt.Errorf("vsock: %w: the driver enabled no rx or tx queue", virtio.ErrGuest)
	}
	act := &activation{queues: a.Queues, fail: a.Fail}
	d.mu.Lock()
	d.active = act
	d.mu.Unlock()
	d.tx.start(act)
	d.rx.start(act, d.restore.Swap(false))
	d.table.start()
	d.serve(act, rxQueue, d.rxKicked)
	d.serve(act, txQueue, d.txKicked)
	if a.Queues[eventQueue] != nil {
		d.serve(act, eventQueue, d.eventKicked)
	}
	return nil
}

// serve runs handle after every kick of queue n and as long as there is more, and once at
// the start for what the driver did before it.
func (d *Device) serve(act *activation, n int, handle func() (more bool, err error)) {
	kick := act.queues[n].Kick()
	act.wg.Go(func() {
		_ = kick.Serve(func() (over bool) { // an error says that it was closed
			for more := true; more && !act.stop.Load(); {
				var err error
				if more, err = handle(); err != nil {
					d.fail(act, err)
				}
			}
			return act.stop.Load()
		})
	})
}

// fail reports that the guest broke a queue and ends all connections. No lock is held.
func (d *Device) fail(act *activation, err error) {
	if act.broken.Swap(true) {
		return
	}
	if d.mayLog() {
		d.log.Warn("vsock device needs a reset", "error", err)
	}
	act.fail(fmt.Errorf("vsock: %w", err))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.active == act {
		d.endAll()
	}
}

// endAll breaks all connections and refuses new ones.
func (d *Device) endAll() {
	for _, c := range d.table.stop() {
		c.mu.Lock()
		c.finish(ErrReset)
		c.mu.Unlock()
	}
}

// Reset ends all connections with ErrReset and forgets the driver.
func (d *Device) Reset() {
	act := d.active
	d.restore.Store(false) // the driver that was to hear of it is gone
	if act == nil {
		return
	}
	act.stop.Store(true)
	virtio.KickAll(act.queues)
	act.wg.Wait()
	d.tx.start(nil)
	d.rx.start(nil, false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.active = nil
	d.endAll()
	d.outbox.clear()
}

// Close is Reset: nothing outlives the driver.
func (d *Device) Close() error {
	d.Reset()
	return nil
}

// Pause waits until nothing touches guest memory any more; connections stay, and their
// calls wait. The guest's packets and the host's writes stop until Resume.
func (d *Device) Pause() {
	if d.active != nil {
		d.tx.pause(true)
		d.rx.pause(true)
	}
}

// Resume continues where Pause stopped.
func (d *Device) Resume() {
	if d.active != nil {
		d.tx.pause(false)
		d.rx.pause(false)
		virtio.KickAll(d.active.queues)
	}
}

// Stats is a snapshot of the counters.
func (d *Device) Stats() Stats {
	return Stats{
		Conns:    d.table.len(),
		Received: d.stats.received.Load(),
		Sent:     d.stats.sent.Load(),
		Dropped:  d.stats.dropped.Load(),
		Refused:  d.stats.refused.Load(),
		Killed:   d.stats.killed.Load(),
	}
}

// mayLog reports that the last line of the log is older than logInterval, and takes the
// turn of the next one.
func (d *Device) mayLog() bool {
	now, last := time.Now().UnixNano(), d.lastLog.Load()
	return now-last >= int64(logInterval) && d.lastLog.CompareAndSwap(last, now)
}

// complain logs what the guest sent.
func (d *Device) complain(what string, h *header) {
	if !d.mayLog() {
		return
	}
	d.log.Warn("vsock: "+what, "op", uint16(h.op), "src_cid", h.srcCID, "src_port", h.srcPort,
		"dst_cid", h.dstCID, "dst_port", h.dstPort, "length", h.length)
}
