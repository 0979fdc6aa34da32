package vsock

import (
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version and the next port of Dial, each 32 bits little endian.
const (
	stateVersion = 1
	stateSize    = 8
)

// SaveState encodes what a copy of the device needs. Connections are not part of it.
func (d *Device) SaveState() ([]byte, error) {
	d.table.mu.Lock()
	defer d.table.mu.Unlock()
	b := make([]byte, stateSize)
	binary.LittleEndian.PutUint32(b[0:], stateVersion)
	binary.LittleEndian.PutUint32(b[4:], d.table.nextPort)
	return b, nil
}

// RestoreState takes what SaveState of this or an earlier version returned. The next
// Activate tells the guest that all its connections are gone (TRANSPORT_RESET) and to
// read its CID anew; until the guest has taken that in, nothing else is sent to it. The
// error wraps virtio.ErrState.
func (d *Device) RestoreState(b []byte) error {
	if len(b) != stateSize {
		return fmt.Errorf("vsock: %w: %d bytes, not %d", virtio.ErrState, len(b), stateSize)
	}
	if v := binary.LittleEndian.Uint32(b[0:]); v != stateVersion {
		return fmt.Errorf("vsock: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	port := binary.LittleEndian.Uint32(b[4:])
	if port < firstPort || port > 1<<32-2 {
		return fmt.Errorf("vsock: %w: port %d", virtio.ErrState, port)
	}
	d.table.mu.Lock()
	d.table.nextPort = port
	d.table.mu.Unlock()
	d.restore.Store(true)
	return nil
}
