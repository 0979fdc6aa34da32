package blk

import (
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version (32 bits), whether the disk is read-only (32 bits) and its size in
// sectors (64 bits), all little endian. The content of the disk is not part of it, and
// no request is in flight.
const (
	stateVersion = 1
	stateSize    = 16
)

// SaveState encodes what the driver was told about the disk.
func (d *Device) SaveState() ([]byte, error) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, stateVersion)
	b = le.AppendUint32(b, d.readOnlyWord())
	return le.AppendUint64(b, d.size/SectorSize), nil
}

func (d *Device) readOnlyWord() uint32 {
	if d.readOnly {
		return 1
	}
	return 0
}

// RestoreState checks what SaveState of this or an earlier version returned: the guest
// must find the disk as it was, unless there was none ([Parked]), which it hears of. The
// error wraps virtio.ErrState.
func (d *Device) RestoreState(b []byte) error {
	le := binary.LittleEndian
	if len(b) != stateSize {
		return fmt.Errorf("blk: %w: %d bytes, not %d", virtio.ErrState, len(b), stateSize)
	}
	if v := le.Uint32(b); v != stateVersion {
		return fmt.Errorf("blk: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	if le.Uint32(b[4:]) != d.readOnlyWord() {
		return fmt.Errorf("blk: %w: it is of a disk with read-only %d, this has %d", virtio.ErrState, le.Uint32(b[4:]), d.readOnlyWord())
	}
	switch n := le.Uint64(b[8:]); {
	case n == 0 && d.size > 0:
		d.inserted.Store(true)
	case n != d.size/SectorSize:
		return fmt.Errorf("blk: %w: it is of a disk of %d sectors, this has %d", virtio.ErrState, n, d.size/SectorSize)
	}
	return nil
}
