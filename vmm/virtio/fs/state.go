package fs

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version (32 bits, little endian), the configuration space, and the state of
// the backend, which is empty if it was [Parked]. No request is in flight.
const (
	stateVersion = 1
	stateHeader  = 4 + configSize
)

// SaveState encodes the session. It returns an error that is ErrBusy while a request of
// the guest waits for a lock.
func (d *Device) SaveState() ([]byte, error) {
	var session []byte
	var err error
	d.life.With(func(act *activation, ok bool) {
		if ok && act.aside.waiting() > 0 {
			err = ErrBusy
			return
		}
		session, err = d.backend.SaveState()
	})
	if err != nil {
		return nil, fmt.Errorf("fs: %w", err)
	}
	b := binary.LittleEndian.AppendUint32(nil, stateVersion)
	b = append(b, d.config[:]...)
	return append(b, session...), nil
}

// RestoreState continues the session that SaveState of this or an earlier version
// encoded. The error wraps virtio.ErrState if the state is not of such a device.
func (d *Device) RestoreState(b []byte) error {
	if len(b) < stateHeader {
		return fmt.Errorf("fs: %w: %d bytes, not %d or more", virtio.ErrState, len(b), stateHeader)
	}
	if v := binary.LittleEndian.Uint32(b); v != stateVersion {
		return fmt.Errorf("fs: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	if !bytes.Equal(b[4:stateHeader], d.config[:]) {
		return fmt.Errorf("fs: %w: it is of a device with another tag or other queues", virtio.ErrState)
	}
	session := b[stateHeader:]
	if len(session) == 0 {
		return nil // it was parked
	}
	var err error
	d.life.With(func(*activation, bool) { err = d.backend.RestoreState(session) })
	if err != nil {
		return fmt.Errorf("fs: %w: %w", virtio.ErrState, err)
	}
	return nil
}
