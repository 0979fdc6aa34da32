package console

import (
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version (32 bits), the size (columns and rows, 16 bits each), the number of
// ports (32 bits) and for each port its flags and its pending messages (8 bits each), all
// little endian.
const (
	stateVersion = 1
	stateHeader  = 12
	statePort    = 2

	flagReady = 1 << 0
	flagOpen  = 1 << 1
)

// SaveState encodes which ports the guest has and which of them are open. What Output has
// not taken yet, and what was read from Input, stays with this device.
func (d *Device) SaveState() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, stateVersion)
	b = le.AppendUint16(b, d.size.Cols)
	b = le.AppendUint16(b, d.size.Rows)
	b = le.AppendUint32(b, uint32(len(d.ports)))
	for _, p := range d.ports {
		var flags byte
		if p.ready {
			flags |= flagReady
		}
		if p.open {
			flags |= flagOpen
		}
		b = append(b, flags, byte(p.pending))
	}
	return b, nil
}

// RestoreState takes what SaveState of this or an earlier version returned, of a device
// with as many ports. The error wraps virtio.ErrState.
func (d *Device) RestoreState(b []byte) error {
	le := binary.LittleEndian
	if want := stateHeader + statePort*len(d.ports); len(b) != want {
		return fmt.Errorf("console: %w: %d bytes, not %d", virtio.ErrState, len(b), want)
	}
	if v := le.Uint32(b); v != stateVersion {
		return fmt.Errorf("console: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	if n := le.Uint32(b[8:]); n != uint32(len(d.ports)) {
		return fmt.Errorf("console: %w: %d ports, not %d", virtio.ErrState, n, len(d.ports))
	}
	for i := range d.ports {
		flags, p := b[stateHeader+statePort*i], pending(b[stateHeader+statePort*i+1])
		if flags&^(flagReady|flagOpen) != 0 || flags == flagOpen || p >= tellClosed<<1 {
			return fmt.Errorf("console: %w: port %d", virtio.ErrState, i)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = Size{Cols: le.Uint16(b[4:]), Rows: le.Uint16(b[6:])}
	for i, p := range d.ports {
		s := b[stateHeader+statePort*i:]
		p.ready, p.open = s[0]&flagReady != 0, s[0]&flagOpen != 0
		p.pending = pending(s[1])
	}
	return nil
}
