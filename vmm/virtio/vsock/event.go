package vsock

import (
	"encoding/binary"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	eventSize           = 4 // struct virtio_vsock_event (virtio 1.2 §5.10.6.7)
	eventTransportReset = 0
)

// eventKicked tells a restored guest that its connections are gone, and opens the way to
// it once it has taken that in: a connection that arrived before would be broken too.
//
// The guest takes the event in before it offers the buffer again. To see that, all its
// buffers are taken, and those without an event go back with no bytes, which a driver
// ignores. The loop ends: an event is sent once.
func (d *Device) eventKicked() (more bool, err error) {
	r := &d.rx
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.event != nil && !r.paused && !r.act.broken.Load() {
		if r.announce {
			if err := r.sendEvent(); err != nil {
				return false, err
			}
		}
		more, err := r.event.EnableKicks()
		if err != nil || !more {
			return false, err
		}
		if !r.announce {
			r.event.DisableKicks() // nothing else is ever sent here
			r.gated = false
			r.wakeAll()
			return false, d.drain()
		}
	}
	return false, nil
}

// sendEvent puts TRANSPORT_RESET into the first free buffer, if there is one.
func (r *rx) sendEvent() error {
	var b [eventSize]byte
	binary.LittleEndian.PutUint32(b[:], eventTransportReset)
	taken := false
	for range r.event.Size() {
		ok, err := r.event.Pop(&r.chain)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		taken = true
		n := 0
		if r.announce {
			if n = r.chain.Write(0, b[:]); n < eventSize {
				return fmt.Errorf("%w: event buffer of %d bytes", virtio.ErrGuest, n)
			}
			r.announce = false
		}
		if err := r.event.Push(r.chain.Head, uint32(n)); err != nil {
			return err
		}
	}
	if !taken {
		return nil
	}
	return r.event.Notify()
}
