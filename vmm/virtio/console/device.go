package console

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	deviceID         = 3      // virtio 1.2 §5.3.1
	featureSize      = 1 << 0 // VIRTIO_CONSOLE_F_SIZE
	featureMultiport = 1 << 1 // VIRTIO_CONSOLE_F_MULTIPORT

	controlIn, controlOut = 2, 3 // queues: to the guest, from the guest

	maxPorts    = 31
	maxNameSize = 64

	outQueueSize     = 64
	inQueueSize      = 64
	idleInQueueSize  = 4 // of a port without Input; Linux gives each entry a page
	controlQueueSize = 32

	// logInterval is the least time between two log lines that the guest caused.
	logInterval = 5 * time.Second
)

// ErrConfig is wrapped by the errors of Config.Validate.
var ErrConfig = errors.New("invalid console configuration")

// Port is one byte stream.
type Port struct {
	// Name is what the guest reads in /sys/class/virtio-ports/*/name, at most 64 bytes;
	// empty for none.
	Name string
	// Console makes the port a terminal, /dev/hvcN. Other ports are /dev/vportNpM.
	Console bool
	// Output receives what the guest writes; nil discards it. Of a Console port, bytes
	// are dropped while Output does not move; an error loses the bytes at hand. The
	// guest's writes to another port wait; an error ends that port. The device does not
	// close Output, and Close does not wait for it for longer than a second.
	Output io.Writer
	// Input is read ahead by 4 KiB at most, from when the guest has opened the port to
	// the first error; nil for none. The device's Close closes it if it is an
	// io.Closer, which should end a Read under way.
	Input io.Reader
}

// Config describes a console device.
type Config struct {
	// Ports are 1 to 31. The first one works without the multiport protocol, if it is a
	// console.
	Ports []Port
	// Multiport offers VIRTIO_CONSOLE_F_MULTIPORT also for a single console without a
	// name. Without that protocol the guest boots a little faster.
	Multiport bool
	// Size is that of the terminal; 0 by 0 if there is none to speak of. It can be
	// changed by Resize only if it is not 0 by 0 here.
	Size Size
	// Logger receives what the guest did wrong; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	if len(c.Ports) < 1 || len(c.Ports) > maxPorts {
		return fmt.Errorf("%w: %d ports: choose 1 to %d", ErrConfig, len(c.Ports), maxPorts)
	}
	names := make(map[string]bool)
	for i, p := range c.Ports {
		switch {
		case len(p.Name) > maxNameSize:
			return fmt.Errorf("%w: name of port %d has %d bytes: at most %d", ErrConfig, i, len(p.Name), maxNameSize)
		case p.Name != "" && names[p.Name]:
			return fmt.Errorf("%w: two ports are named %q", ErrConfig, p.Name)
		}
		names[p.Name] = true
	}
	return nil
}

// PortStats counts bytes since New.
type PortStats struct {
	Written uint64 // Output took them
	Lost    uint64 // Output refused them
	Dropped uint64 // Output was not offered them: it did not move, or had failed
	Read    uint64 // from Input, given to the guest
}

// Device is the console device. It is a virtio.Device; Resize and Stats are for
// everybody else and safe for concurrent use.
type Device struct {
	log       *slog.Logger
	multiport bool // offered
	sizable   bool
	ports     []*port
	ignored   atomic.Uint64 // control messages
	lastLog   atomic.Int64  // unix nanoseconds

	mu     sync.Mutex
	size   Size        // protected by mu, as all below
	active *activation // nil before Activate and after Reset
	paused bool
	chain  virtio.Chain // scratch of all queues but those from the guest's ports
	reply  []byte       // scratch
}

// activation is what Activate set up and Reset takes down.
type activation struct {
	virtio.Activation
	multiport bool // negotiated
	broken    bool // the guest broke a queue; nothing is served any more
	stop      atomic.Bool
	wg        sync.WaitGroup
}

var _ virtio.Device = (*Device)(nil)

// New makes a device; its error wraps ErrConfig.
func New(cfg Config) (*Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Device{
		log:       cfg.Logger,
		multiport: cfg.Multiport || len(cfg.Ports) > 1 || cfg.Ports[0].Name != "" || !cfg.Ports[0].Console,
		size:      cfg.Size,
		sizable:   cfg.Size != Size{},
		reply:     make([]byte, 0, controlSize+maxNameSize),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	for i, p := range cfg.Ports {
		d.ports = append(d.ports, newPort(i, p))
	}
	return d, nil
}

// ID is 3.
func (d *Device) ID() uint32 { return deviceID }

// Features are F_SIZE if Config has a size, and F_MULTIPORT unless there is but one
// console without a name.
func (d *Device) Features() uint64 {
	var f uint64
	if d.sizable {
		f |= featureSize
	}
	if d.multiport {
		f |= featureMultiport
	}
	return f
}

// QueueSizes are two for each port, and two for control messages after the first port's
// if there is F_MULTIPORT.
func (d *Device) QueueSizes() []uint16 {
	var sizes []uint16
	for i, p := range d.ports {
		in := uint16(idleInQueueSize)
		if p.input != nil {
			in = inQueueSize
		}
		sizes = append(sizes, in, outQueueSize)
		if i == 0 && d.multiport {
			sizes = append(sizes, controlQueueSize, controlQueueSize)
		}
	}
	return sizes
}

// ReadConfig reads struct virtio_console_config (virtio 1.2 §5.3.4).
func (d *Device) ReadConfig(off uint32, p []byte) {
	d.mu.Lock()
	size := d.size
	d.mu.Unlock()
	var config [12]byte
	binary.LittleEndian.PutUint16(config[0:], size.Cols)
	binary.LittleEndian.PutUint16(config[2:], size.Rows)
	binary.LittleEndian.PutUint32(config[4:], uint32(len(d.ports)))
	clear(p)
	if off < uint32(len(config)) {
		copy(p, config[off:])
	}
}

// WriteConfig does nothing: VIRTIO_CONSOLE_F_EMERG_WRITE is not offered.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate starts to serve the queues.
func (d *Device) Activate(a virtio.Activation) error {
	if len(a.Queues) != len(d.QueueSizes()) {
		return fmt.Errorf("console: %w: %d queues", virtio.ErrGuest, len(a.Queues))
	}
	act := &activation{Activation: a, multiport: d.multiport && a.Features&featureMultiport != 0}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.active = act
	for i, p := range d.ports {
		p.attach(a.Queues[portQueue(i)], a.Queues[portQueue(i)+1])
		if i == 0 && !act.multiport {
			p.ready, p.open = true, true
		}
		if p.in != nil && p.input != nil {
			d.serve(act, p.in, func() (bool, error) { return d.feed(p) })
			p.listen()
		}
		if p.out != nil {
			d.serve(act, p.out, func() (bool, error) { return d.collect(p) })
		}
	}
	if act.multiport {
		if q := a.Queues[controlIn]; q != nil {
			d.serve(act, q, d.tell)
		}
		if q := a.Queues[controlOut]; q != nil {
			d.serve(act, q, d.hear)
		}
	}
	return nil
}

// portQueue is the queue to the guest of port n; the one from the guest follows it.
func portQueue(n int) int {
	if n == 0 {
		return 0
	}
	return 2*n + 2
}

// serve runs handle, with mu held, after every kick of q and as long as there is more,
// and once at the start for what the driver did before it.
func (d *Device) serve(act *activation, q *virtio.Queue, handle func() (more bool, err error)) {
	kick := q.Kick()
	act.wg.Go(func() {
		_ = kick.Serve(func() (over bool) { // an error says that it was closed
			for more := true; more && !act.stop.Load(); {
				var err error
				if more, err = d.locked(act, handle); err != nil {
					d.complain(err)
					act.Fail(fmt.Errorf("console: %w", err))
				}
			}
			return act.stop.Load()
		})
	})
}

func (d *Device) locked(act *activation, handle func() (bool, error)) (more bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused || act.broken {
		return false, nil
	}
	more, err = handle()
	act.broken = err != nil
	return more, err
}

// complain logs what the guest did, but not more often than every logInterval.
func (d *Device) complain(err error) {
	now, last := time.Now().UnixNano(), d.lastLog.Load()
	if now-last >= int64(logInterval) && d.lastLog.CompareAndSwap(last, now) {
		d.log.Warn("console device needs a reset", "error", err)
	}
}

// Reset forgets the driver. What the guest wrote before still reaches Output.
func (d *Device) Reset() {
	d.mu.Lock()
	act := d.active
	d.mu.Unlock()
	if act != nil {
		act.stop.Store(true)
		virtio.KickAll(act.Queues)
		act.wg.Wait()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.active, d.paused = nil, false
	for _, p := range d.ports {
		p.detach()
	}
}

// Close is Reset; it also closes the Inputs that are io.Closers and waits, but not for
// longer than a second each, for what is being read and written.
func (d *Device) Close() error {
	d.Reset()
	var wg sync.WaitGroup
	for _, p := range d.ports {
		wg.Go(p.close)
	}
	wg.Wait()
	return nil
}

// Pause waits until nothing touches guest memory any more.
func (d *Device) Pause() {
	d.mu.Lock()
	d.paused = d.active != nil
	act, err := d.active, d.settle()
	d.mu.Unlock()
	if err != nil {
		d.complain(err)
		act.Fail(fmt.Errorf("console: %w", err))
	}
}

// settle uses up chains that are only partly taken; mu is held.
func (d *Device) settle() error {
	if d.active == nil || d.active.broken {
		return nil
	}
	for _, p := range d.ports {
		if err := p.settle(); err != nil {
			d.active.broken = true
			return err
		}
	}
	return nil
}

// Resume continues where Pause stopped.
func (d *Device) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = false
	if d.active != nil {
		virtio.KickAll(d.active.Queues)
	}
}

// Resize tells the guest the size of its terminal. It has no effect if Config.Size was 0
// by 0.
func (d *Device) Resize(s Size) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.sizable || s == d.size {
		return
	}
	d.size = s
	act := d.active
	if act == nil || act.Features&featureSize == 0 {
		return
	}
	if !act.multiport {
		act.ConfigChanged()
		return
	}
	for _, p := range d.ports {
		if p.console && p.ready {
			p.pending |= tellSize
		}
	}
	d.kickControl()
}

// Stats is a snapshot of the counters of port n of Config.Ports.
func (d *Device) Stats(n int) PortStats {
	p := d.ports[n]
	taken, lost, dropped := p.output.counts()
	return PortStats{Written: taken, Lost: lost, Dropped: dropped, Read: p.read.Load()}
}
