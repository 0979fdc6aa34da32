package virtiotest

import (
	"github.com/gomsb/gomsb/vmm/virtio"
)

// Device is a virtio.Device that does nothing of itself: a test of the transport sets
// what it offers and sees what it is told. Its zero value has no queues.
type Device struct {
	Type  uint32
	Offer uint64   // type-specific features
	Sizes []uint16 // of the queues
	Space []byte   // the configuration space, all of it writable
	State []byte   // what SaveState returns and RestoreState has set

	// The functions, where they are not nil, run in the methods of their names. The
	// error of OnActivate is that of Activate.
	OnActivate                 func(virtio.Activation) error
	OnPause, OnResume, OnReset func()

	// Active is the last activation. The rest counts calls.
	Active                                     virtio.Activation
	Activated, Resets, Pauses, Resumes, Closed int
}

var _ virtio.Device = (*Device)(nil)

// ID is Type.
func (d *Device) ID() uint32 { return d.Type }

// Features are Offer.
func (d *Device) Features() uint64 { return d.Offer }

// QueueSizes are Sizes.
func (d *Device) QueueSizes() []uint16 { return d.Sizes }

// ReadConfig reads Space.
func (d *Device) ReadConfig(off uint32, p []byte) {
	clear(p)
	if uint64(off) < uint64(len(d.Space)) {
		copy(p, d.Space[off:])
	}
}

// WriteConfig writes Space.
func (d *Device) WriteConfig(off uint32, p []byte) {
	if uint64(off) < uint64(len(d.Space)) {
		copy(d.Space[off:], p)
	}
}

// Activate remembers a.
func (d *Device) Activate(a virtio.Activation) error {
	d.Active = a
	d.Activated++
	if d.OnActivate != nil {
		return d.OnActivate(a)
	}
	return nil
}

// Pause counts.
func (d *Device) Pause() {
	d.Pauses++
	call(d.OnPause)
}

// Resume counts.
func (d *Device) Resume() {
	d.Resumes++
	call(d.OnResume)
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// Reset forgets the activation.
func (d *Device) Reset() {
	d.Resets++
	call(d.OnReset)
	d.Active = virtio.Activation{}
}

// SaveState returns State.
func (d *Device) SaveState() ([]byte, error) { return d.State, nil }

// RestoreState sets State.
func (d *Device) RestoreState(b []byte) error {
	d.State = append([]byte(nil), b...)
	return nil
}

// Close counts.
func (d *Device) Close() error {
	d.Closed++
	return nil
}
