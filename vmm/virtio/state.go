package virtio

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// stateVersion is the first byte of a transport's saved state.
const stateVersion = 1

// queueState is what a queue knows besides its registers.
type queueState struct {
	nextAvail, nextUsed, signalled uint16
	noKicks                        bool
	pending                        []uint64
}

func (q *Queue) state() queueState {
	return queueState{q.nextAvail, q.nextUsed, q.signalled, q.noKicks, slices.Clone(q.pending)}
}

func (q *Queue) restore(s queueState) error {
	if len(s.pending) != len(q.pending) {
		return fmt.Errorf("%w: pending set of %d words for a queue of %d", ErrState, len(s.pending), q.size)
	}
	q.nextAvail, q.nextUsed, q.signalled, q.noKicks = s.nextAvail, s.nextUsed, s.signalled, s.noKicks
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
	b = append(b, flag(t.broken.Load() != nil), byte(len(t.queues)))
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
		b = append(b, flag(s.noKicks))
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

// RestoreState brings a fresh transport to the saved state and starts the device if it
// was active. The queues are checked as at activation. After an error the transport is
// of no use.
func (t *MMIO) RestoreState(b []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := &stateReader{b: b}
	if v := d.u8(); v != stateVersion {
		return fmt.Errorf("%w: transport version %d, want %d", ErrState, v, stateVersion)
	}
	if id := d.u32(); id != t.dev.ID() {
		return fmt.Errorf("%w: it is of device type %d, this is %d", ErrState, id, t.dev.ID())
	}
	status, acked := d.u32(), d.u64()
	devSel, drvSel, queueSel, irqs, generation := d.u32(), d.u32(), d.u32(), d.u32(), d.u32()
	needsReset := d.u8() == 1
	if n := int(d.u8()); n != len(t.queues) {
		return fmt.Errorf("%w: %d queues, this device has %d", ErrState, n, len(t.queues))
	}
	queues := make([]queueConfig, len(t.queues))
	saved := make([]queueState, len(t.queues))
	for i := range queues {
		c, s := &queues[i], &saved[i]
		c.size, c.ready = d.u16(), d.u8() == 1
		c.desc, c.avail, c.used = d.u64(), d.u64(), d.u64()
		s.nextAvail, s.nextUsed, s.signalled, s.noKicks = d.u16(), d.u16(), d.u16(), d.u8() == 1
		if c.size > t.sizes[i] {
			return fmt.Errorf("%w: queue %d has size %d, at most %d", ErrState, i, c.size, t.sizes[i])
		}
		for range words(c.size) {
			s.pending = append(s.pending, d.u64())
		}
	}
	dev := d.bytes(int(d.u32()))
	if d.bad || len(d.b) != 0 || status&^driverStatus != 0 || acked&^t.feats != 0 {
		return fmt.Errorf("%w: damaged", ErrState)
	}
	if err := t.dev.RestoreState(dev); err != nil {
		return fmt.Errorf("device %d: %w", t.dev.ID(), err)
	}
	t.status, t.acked, t.devSel, t.drvSel, t.queueSel, t.queues = status, acked, devSel, drvSel, queueSel, queues
	t.interrupts.Store(irqs)
	t.generation.Store(generation)
	if needsReset {
		err := fmt.Errorf("%w: before the state was saved", ErrGuest)
		t.broken.Store(&err)
	}
	if status&StatusDriverOK == 0 || needsReset {
		return nil
	}
	return t.activate(saved)
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
