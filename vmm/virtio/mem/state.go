package mem

import (
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// State is a version (32 bits), base and size of the region, the target (64 bits each),
// and the set of plugged blocks in words of 64 bits; little endian. The content of the
// blocks is guest memory, and no part of it.
const (
	stateVersion = 1
	stateHeader  = 28
)

// SaveState encodes the target and the set of blocks.
func (d *Device) SaveState() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	le := binary.LittleEndian
	b := le.AppendUint32(make([]byte, 0, stateHeader+8*len(d.blocks.words)), stateVersion)
	for _, v := range []uint64{d.base, d.size, d.target.Load()} {
		b = le.AppendUint64(b, v)
	}
	for _, w := range d.blocks.words {
		b = le.AppendUint64(b, w)
	}
	return b, nil
}

// RestoreState takes what SaveState of this or an earlier version returned, of a device
// with the same region. The error wraps virtio.ErrState.
func (d *Device) RestoreState(b []byte) error {
	le := binary.LittleEndian
	d.mu.Lock()
	defer d.mu.Unlock()
	restored := newBlocks(d.blocks.size)
	if want := stateHeader + 8*len(restored.words); len(b) != want {
		return fmt.Errorf("memory: %w: %d bytes, not %d", virtio.ErrState, len(b), want)
	}
	if v := le.Uint32(b); v != stateVersion {
		return fmt.Errorf("memory: %w: version %d, not %d", virtio.ErrState, v, stateVersion)
	}
	base, size, target := le.Uint64(b[4:]), le.Uint64(b[12:]), le.Uint64(b[20:])
	if base != d.base || size != d.size {
		return fmt.Errorf("memory: %w: a region of %#x bytes at %#x, not %#x at %#x", virtio.ErrState, size, base, d.size, d.base)
	}
	for i := range restored.words {
		restored.words[i] = le.Uint64(b[stateHeader+8*i:])
	}
	if n := restored.size; target > size || target%BlockSize != 0 || n%64 != 0 && restored.words[n/64]>>(n%64) != 0 {
		return fmt.Errorf("memory: %w: target %#x, or blocks beyond the region", virtio.ErrState, target)
	}
	d.blocks, d.plugged = restored, restored.count(0, restored.size)
	d.target.Store(target)
	return nil
}
