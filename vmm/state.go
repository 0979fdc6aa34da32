package vmm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gomsb/gomsb/vmm/hv"
)

// stateVersion is the first byte of a machine's saved state.
const stateVersion = 2

// ErrSavedState is wrapped by errors of RestoreState: the state is damaged, or of a
// machine of another shape.
var ErrSavedState = errors.New("saved machine state does not fit")

// SaveState captures everything of a paused machine but the contents of its memory and
// disks: interrupt controllers, timers, processors and devices. The encoding does not
// depend on this process; processor state depends on the host's processor.
func (m *Machine) SaveState() ([]byte, error) {
	processors := make([][]byte, len(m.vcpus))
	errs := make([]error, len(m.vcpus))
	if err := m.onThreads(func(c *vcpu) { processors[c.id], errs[c.id] = m.saveVCPU(c) }); err != nil {
		return nil, fmt.Errorf("save state: %w", err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("save state: %w", err)
	}
	chips, err := m.vm.SaveState()
	if err != nil {
		return nil, fmt.Errorf("save state: %w", err)
	}
	b := []byte{stateVersion}
	b = appendBlock(b, []byte(m.profile))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(processors)))
	for _, p := range processors {
		b = appendBlock(b, p)
	}
	b = appendBlock(b, chips)
	b = appendBlock(b, m.renewal.save())
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.bus.slots)))
	for _, s := range m.bus.slots {
		dev, err := s.transport.SaveState()
		if err != nil {
			return nil, fmt.Errorf("save state of %s: %w", s.name, err)
		}
		b = appendBlock(appendBlock(b, []byte(s.name)), dev)
	}
	return b, nil
}

// maxPending bounds the accesses of one instruction: the widest one has 64 bytes and may
// cross a page, in pieces of 8.
const maxPending = 16

// saveVCPU completes what the processor was in the middle of, and saves it.
func (m *Machine) saveVCPU(c *vcpu) ([]byte, error) {
	for range maxPending {
		b, err := c.hv.SaveState()
		if !errors.Is(err, hv.ErrPending) {
			return b, err
		}
		e, err := c.hv.Run()
		if err != nil {
			return nil, err
		}
		m.handle(c, e)
	}
	return nil, fmt.Errorf("vCPU %d: %w", c.id, hv.ErrPending)
}

// RestoreState brings a machine that is built in the same way but not started, and whose
// memory holds what it held at SaveState, to the saved state. Start then goes on where
// the saved machine was. After an error the machine can only be closed.
func (m *Machine) RestoreState(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started || m.closed || m.want.Load() == wantEnd {
		return fmt.Errorf("restore state: %w: it is not new", ErrState)
	}
	if err := m.restore(b); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	return nil
}

func (m *Machine) restore(b []byte) error {
	if len(b) == 0 || b[0] != stateVersion {
		return fmt.Errorf("%w: unknown version", ErrSavedState)
	}
	r := &stateReader{b: b[1:]}
	if p := Profile(r.block()); r.err == nil && p != m.profile {
		return fmt.Errorf("%w: it has CPU profile %s, this machine %s", ErrSavedState, p, m.profile)
	}
	if n := r.u32(); r.err == nil && int64(n) != int64(len(m.vcpus)) {
		return fmt.Errorf("%w: it has %d processors, this machine %d", ErrSavedState, n, len(m.vcpus))
	}
	processors := make([][]byte, len(m.vcpus))
	for i := range processors {
		processors[i] = r.block()
	}
	chips, renewal := r.block(), r.block()
	if n := r.u32(); r.err == nil && int64(n) != int64(len(m.bus.slots)) {
		return fmt.Errorf("%w: it has %d devices, this machine %d", ErrSavedState, n, len(m.bus.slots))
	}
	devices := make([][]byte, len(m.bus.slots))
	for i, s := range m.bus.slots {
		if name := string(r.block()); r.err == nil && name != s.name {
			return fmt.Errorf("%w: device %d is %q, here %q", ErrSavedState, i, name, s.name)
		}
		devices[i] = r.block()
	}
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%w: it is damaged", ErrSavedState)
	}
	if r.err != nil {
		return r.err
	}
	// Processors first: their local interrupt controllers are part of them. Devices last:
	// they raise interrupts as soon as they live.
	for i, c := range m.vcpus {
		if err := c.hv.RestoreState(processors[i]); err != nil {
			return fmt.Errorf("%w: %w", ErrSavedState, err)
		}
		if err := m.holdOffline(c); err != nil {
			return fmt.Errorf("%w: %w", ErrSavedState, err)
		}
	}
	if err := m.vm.RestoreState(chips); err != nil {
		return fmt.Errorf("%w: %w", ErrSavedState, err)
	}
	for i, s := range m.bus.slots {
		if err := s.transport.RestoreState(devices[i]); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrSavedState, s.name, err)
		}
	}
	if err := m.renewal.restore(renewal); err != nil {
		return err
	}
	return m.renew()
}

// appendBlock appends a length and the bytes.
func appendBlock(dst, b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// stateReader takes apart what SaveState put together; err is set once it was too short.
type stateReader struct {
	b   []byte
	err error
}

func (r *stateReader) u32() uint32 {
	if r.err != nil || len(r.b) < 4 {
		r.err = fmt.Errorf("%w: it is truncated", ErrSavedState)
		return 0
	}
	v := binary.LittleEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *stateReader) block() []byte {
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(len(r.b)) {
		r.err = fmt.Errorf("%w: it is truncated", ErrSavedState)
	}
	if r.err != nil {
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}
