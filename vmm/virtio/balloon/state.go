package balloon

import (
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version, the target and the actual size in pages, whether the guest's
// buffer for statistics is ours, and its head; each 32 bits little endian.
const (
	stateVersion = 1
	stateSize    = 20
)

// SaveState encodes the sizes and the buffer that the guest has lent. Statistics are not
// part of it: they would be old.
func (d *Device) SaveState() ([]byte, error) {
	var held heldBuffer
	d.life.With(func(act *activation, ok bool) {
		if held = d.saved; ok {
			held = act.stats.held
		}
	})
	le := binary.LittleEndian
	b := le.AppendUint32(nil, stateVersion)
	b = le.AppendUint32(b, d.target.Load())
	b = le.AppendUint32(b, d.actual.Load())
	valid := uint32(0)
	if held.valid {
		valid = 1
	}
	b = le.AppendUint32(b, valid)
	return le.AppendUint32(b, uint32(held.head)), nil
}

// RestoreState takes what SaveState of this or an earlier version returned. The error
// wraps virtio.ErrState.
func (d *Device) RestoreState(b []byte) error {
	le := binary.LittleEndian
	if len(b) != stateSize {
		return fmt.Errorf("balloon: %w: %d bytes, not %d", virtio.ErrState, len(b), stateSize)
	}
	if v := le.Uint32(b); v != stateVersion {
		return fmt.Errorf("balloon: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	valid, head := le.Uint32(b[12:]), le.Uint32(b[16:])
	if valid > 1 || head >= queueSize {
		return fmt.Errorf("balloon: %w: buffer %d, %d for statistics", virtio.ErrState, valid, head)
	}
	d.life.With(func(*activation, bool) {
		d.target.Store(le.Uint32(b[4:]))
		d.actual.Store(le.Uint32(b[8:]))
		d.saved = heldBuffer{valid == 1, uint16(head)}
	})
	return nil
}
