package net

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version (32 bits little endian) and the interface's address: the device
// knows nothing beyond its queues, but the guest knows its address.
const (
	stateVersion = 1
	stateSize    = 4 + 6
)

// SaveState encodes the address.
func (d *Device) SaveState() ([]byte, error) {
	return append(binary.LittleEndian.AppendUint32(nil, stateVersion), d.mac[:]...), nil
}

// RestoreState checks what SaveState of this or an earlier version returned, of a device
// with the same address. The error wraps virtio.ErrState.
func (d *Device) RestoreState(b []byte) error {
	if len(b) != stateSize {
		return fmt.Errorf("net: %w: %d bytes, not %d", virtio.ErrState, len(b), stateSize)
	}
	if v := binary.LittleEndian.Uint32(b); v != stateVersion {
		return fmt.Errorf("net: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	if !bytes.Equal(b[4:], d.mac[:]) {
		return fmt.Errorf("net: %w: address %x, not %x", virtio.ErrState, b[4:], d.mac)
	}
	return nil
}
