package rng

import (
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version, 32 bits little endian: the device knows nothing beyond its queue,
// and the random bytes of a copy are never those of the original.
const (
	stateVersion = 1
	stateSize    = 4
)

// SaveState encodes the version.
func (d *Device) SaveState() ([]byte, error) {
	return binary.LittleEndian.AppendUint32(nil, stateVersion), nil
}

// RestoreState checks what SaveState of this or an earlier version returned. The error
// wraps virtio.ErrState.
func (d *Device) RestoreState(b []byte) error {
	if len(b) != stateSize {
		return fmt.Errorf("rng: %w: %d bytes, not %d", virtio.ErrState, len(b), stateSize)
	}
	if v := binary.LittleEndian.Uint32(b); v != stateVersion {
		return fmt.Errorf("rng: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	return nil
}
