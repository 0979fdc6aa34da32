package virtio

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// stateVersion is the first byte of a transport's saved state.
const stateVersion = 1

// Flags of a queue's saved state.
const (
	stateNoKicks = 1 << 0
	stateLapped  = 1 << 1
)

// queueState is what a queue knows besides its registers.
type queueState struct {
	nextAvail, nextUsed, signalled uint16
	noKicks, lapped                bool
	pending                        []uint64
}

// state is that of a queue at rest.
func (q *Queue) state() queueState {
	return queueState{q.nextAvail, q.nextUsed, q.signalled, q.noKicks, q.lapped, slices.Clone(q.pending)}
}

func (q *Queue) restore(s queueState) error {
	if len(s.pending) != len(q.pending) {
		return fmt.Errorf("%w: pending set of %d words for a queue of %d", ErrState, len(s.pending), q.size)
	}
	for i, w := range s.pending {
		if n := int(q.size) - 64*i; n < 64 && w>>n != 0 {
			return fmt.Errorf("%w: pending set beyond a queue of %d", ErrState, q.size)
		}
	}
	q.nextAvail, q.nextUsed, q.signalled = s.nextAvail, s.nextUsed, s.signalled
	q.noKicks, q.lapped = s.noKicks, s.lapped
	copy(q.pending, s.pending)
	return nil
}

// SaveState captures the transport, its queues and the device, while paused or not
// active. The encoding is little-endian and versioned; it does not depend on this
// process.
func (t *MMIO) SaveState() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dev, err := t.dev.SaveState()
	if err != nil {
		return nil, fmt.Errorf("device %d: %w", t.dev.ID(), err)
	}
	le := binary.LittleEndian
	b := []byte{stateVersion}
	b = le.AppendUint32(b, t.dev.ID())
	b = le.AppendUint32(b, t.status)
	b = le.AppendUint64(b, t.acked)
	for _, v := range []uint32{t.devSel, t.drvSel, t.queueSel, t.interrupts.Load(), t.generation.Load()} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, flag(t.Failure() != nil), byte(len(t.queues)))
	for i, c := range t.queues {
		b = le.AppendUint16(b, c.size)
		b = append(b, flag(c.ready))
		for _, a := range []uint64{c.desc, c.avail, c.used} {
			b = le.AppendUint64(b, a)
		}
		var s queueState
		if t.live[i] != nil {
			s = t.live[i].state()
		}
		for _, v := range []uint16{s.nextAvail, s.nextUsed, s.signalled} {
			b = le.AppendUint16(b, v)
		}
		b = append(b, flag(s.noKicks)*stateNoKicks|flag(s.lapped)*stateLapped)
		for w := range words(c.size) {
			v := uint64(0)
			if w < len(s.pending) {
				v = s.pending[w]
			}
			b = le.AppendUint64(b, v)
		}
	}
	b = le.AppendUint32(b, uint32(len(dev)))
	return append(b, dev...), nil
}

func words(size uint16) int { return (int(size) + 63) / 64 }

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// saved is the decoded state of a transport.
type saved struct {
	status, devSel, drvSel, queueSel, interrupts, generation uint32
	acked                                                    uint64
	needsReset                                               bool
	queues                                                   []queueConfig
	states                                                   []queueState
	device                                                   []byte
}

// RestoreState brings a fresh transport to the saved state, starts the device if it was
// active, and raises the interrupt again if the driver has not acknowledged all. Guest
// memory must be that of the saved machine. The queues are checked as at activation.
// After an error, which wraps ErrState, the transport is of no use.
func (t *MMIO) RestoreState(b []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status != 0 || t.closed {
		return fmt.Errorf("%w: the device is in use already", ErrState)
	}
	s, err := t.decode(b)
	if err != nil {
		return err
	}
	if err := t.dev.RestoreState(s.device); err != nil {
		return fmt.Errorf("device %d: %w", t.dev.ID(), err)
	}
	t.status, t.acked, t.devSel, t.drvSel, t.queueSel, t.queues = s.status, s.acked, s.devSel, s.drvSel, s.queueSel, s.queues
	t.active = true // a reset must reach what the device has restored
	t.interrupts.Store(s.interrupts)
	t.generation.Store(s.generation)
	if s.interrupts != 0 {
		_ = t.irq.Signal() // fails only after Close
	}
	if s.interrupts&interruptConfig != 0 {
		t.changed.start()
	}
	if s.needsReset {
		t.failing.Lock()
		t.broken = fmt.Errorf("%w: before the state was saved", ErrGuest)
		t.failing.Unlock()
		return nil
	}
	if s.status&StatusDriverOK == 0 || s.status&StatusFailed != 0 {
		return nil
	}
	if err := t.activate(s.states); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return nil
}

// decode checks all but what only the device and guest memory can tell; mu is held.
func (t *MMIO) decode(b []byte) (saved, error) {
	d := &stateReader{b: b}
	if v := d.u8(); v != stateVersion {
		return saved{}, fmt.Errorf("%w: transport version %d, want %d", ErrState, v, stateVersion)
	}
	if id := d.u32(); id != t.dev.ID() {
		return saved{}, fmt.Errorf("%w: it is of device type %d, this is %d", ErrState, id, t.dev.ID())
	}
	s := saved{status: d.u32(), acked: d.u64()}
	s.devSel, s.drvSel, s.queueSel, s.interrupts, s.generation = d.u32(), d.u32(), d.u32(), d.u32(), d.u32()
	s.needsReset = d.flag()
	if n := int(d.u8()); n != len(t.queues) {
		return saved{}, fmt.Errorf("%w: %d queues, this device has %d", ErrState, n, len(t.queues))
	}
	for _, most := range t.sizes {
		c, q := d.queue()
		if c.size > most || c.ready && c.size == 0 {
			return saved{}, fmt.Errorf("%w: a queue has size %d, at most %d", ErrState, c.size, most)
		}
		s.queues, s.states = append(s.queues, c), append(s.states, q)
	}
	s.device = d.bytes(int(d.u32()))
	if d.bad || len(d.b) != 0 || s.interrupts&^(interruptUsed|interruptConfig) != 0 || !t.possible(s.status, s.acked) {
		return saved{}, fmt.Errorf("%w: damaged", ErrState)
	}
	return s, nil
}

// possible reports whether setStatus could have led to this status with these features.
func (t *MMIO) possible(status uint32, acked uint64) bool {
	has := func(bit uint32) bool { return status&bit != 0 }
	return status&^driverStatus == 0 &&
		(has(StatusAcknowledge) || !has(StatusDriver)) &&
		(has(StatusDriver) || !has(StatusFeaturesOK) && acked == 0) &&
		(has(StatusFeaturesOK) || !has(StatusDriverOK)) &&
		(!has(StatusFeaturesOK) || acked&FeatureVersion1 != 0 && acked&^t.feats == 0)
}

// stateReader takes fields off saved state; bad is set once it was too short.
type stateReader struct {
	b   []byte
	bad bool
}

func (d *stateReader) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// queue takes the registers and the state of one queue. Its pending set is as long as
// the size says, but nothing is read beyond the end.
func (d *stateReader) queue() (c queueConfig, s queueState) {
	c.size, c.ready = d.u16(), d.flag()
	c.desc, c.avail, c.used = d.u64(), d.u64(), d.u64()
	s.nextAvail, s.nextUsed, s.signalled = d.u16(), d.u16(), d.u16()
	f := d.u8()
	d.bad = d.bad || f&^(stateNoKicks|stateLapped) != 0
	s.noKicks, s.lapped = f&stateNoKicks != 0, f&stateLapped != 0
	for range words(c.size) {
		s.pending = append(s.pending, d.u64())
	}
	return c, s
}

// flag takes a byte that is 0 or 1.
func (d *stateReader) flag() bool {
	v := d.u8()
	d.bad = d.bad || v > 1
	return v == 1
}

func (d *stateReader) u8() byte {
	if v := d.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *stateReader) u16() uint16 {
	if v := d.bytes(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (d *stateReader) u32() uint32 {
	if v := d.bytes(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *stateReader) u64() uint64 {
	if v := d.bytes(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}
