package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gomsb/gomsb/vmm/hv"
)

// stateVersion begins the state of a VM and of a vCPU.
const stateVersion = 1

const sizeMSR = 12 // index and value in our encoding

// vcpuState is everything of a vCPU that has a fixed size.
type vcpuState struct {
	regs   hv.Registers
	sregs  hv.SystemRegisters
	xcrs   xcrs
	lapic  lapicState
	events vcpuEvents
	debug  debugRegs
	mp     mpState
}

// parts lists the fixed parts with the requests that get and set them, in the order in
// which they are restored: the local APIC needs the APIC base of the system registers.
func (s *vcpuState) parts() []part {
	return []part{
		{"system registers", kvmGetSregs, kvmSetSregs, raw(&s.sregs)},
		{"registers", kvmGetRegs, kvmSetRegs, raw(&s.regs)},
		{"extended control registers", kvmGetXCRs, kvmSetXCRs, raw(&s.xcrs)},
		{"local APIC", kvmGetLAPIC, kvmSetLAPIC, raw(&s.lapic)},
		{"debug registers", kvmGetDebugRegs, kvmSetDebugRegs, raw(&s.debug)},
		{"multiprocessor state", kvmGetMPState, kvmSetMPState, raw(&s.mp)},
		{"events", kvmGetVCPUEvents, kvmSetVCPUEvents, raw(&s.events)},
	}
}

// beforeXSAVE is how many parts the extended state must follow.
const beforeXSAVE = 3

type part struct {
	name     string
	get, set uintptr
	b        []byte
}

// complete lets KVM finish an I/O instruction that exited, because its result is not
// part of any register yet.
func (c *vcpu) complete() error {
	if c.unfinished {
		return c.wrap("save state", hv.ErrPending)
	}
	c.setImmediateExit(1)
	errno := enter(c.fd)
	c.setImmediateExit(0)
	if errno == 0 { // the instruction has another access to make
		c.unfinished = true
		return c.wrap("save state", hv.ErrPending)
	}
	return nil
}

// SaveState captures the vCPU between two Runs.
func (c *vcpu) SaveState() ([]byte, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &vcpuState{}
	// The multiprocessor state must come first: reading it settles pending INIT and SIPI.
	if _, err := ioctlPtr(c.fd, kvmGetMPState, &s.mp); err != nil {
		return nil, c.wrap("get multiprocessor state", err)
	}
	b := []byte{stateVersion}
	for _, p := range s.parts() {
		if _, err := ioctlBytes(c.fd, p.get, p.b); err != nil {
			return nil, c.wrap("get "+p.name, err)
		}
		b = appendBlock(b, p.b)
	}
	x, err := c.XSAVE()
	if err != nil {
		return nil, err
	}
	b = appendBlock(b, x)
	m, err := c.saveMSRs()
	if err != nil {
		return nil, err
	}
	return appendBlock(b, m), nil
}

// saveMSRs encodes the registers of the host's list, without those that this guest does
// not have.
func (c *vcpu) saveMSRs() ([]byte, error) {
	var b []byte
	for list := c.vm.k.msrs; len(list) > 0; {
		k := min(len(list), msrBatch)
		for i, index := range list[:k] {
			c.msr.entries[i] = msrEntry{index: index}
		}
		c.msr.n = uint32(k)
		n, err := ioctlPtr(c.fd, kvmGetMSRs, &c.msr)
		if err != nil {
			return nil, c.wrap("get MSRs", err)
		}
		for _, e := range c.msr.entries[:n] {
			b = binary.LittleEndian.AppendUint32(b, e.index)
			b = binary.LittleEndian.AppendUint64(b, e.value)
		}
		if n < k {
			n++ // the one at which the host stopped
		}
		list = list[n:]
	}
	return b, nil
}

// RestoreState brings a fresh vCPU that has its CPUID set to a saved state.
func (c *vcpu) RestoreState(b []byte) error {
	if len(b) == 0 || b[0] != stateVersion {
		return c.wrap("restore state", fmt.Errorf("%w: unknown version", hv.ErrState))
	}
	s, r := &vcpuState{}, &blocks{b: b[1:]}
	parts := s.parts()
	for _, p := range parts {
		r.into(p.b)
	}
	x, m := r.next(), r.next()
	if r.err == nil && (len(r.b) != 0 || len(m)%sizeMSR != 0) {
		r.err = fmt.Errorf("%w: damaged", hv.ErrState)
	}
	if r.err != nil {
		return c.wrap("restore state", r.err)
	}
	set := func(parts []part) error {
		for _, p := range parts {
			if _, err := ioctlBytes(c.fd, p.set, p.b); err != nil {
				return c.wrap("set "+p.name, fmt.Errorf("%w: %w", hv.ErrState, err))
			}
		}
		return nil
	}
	if err := set(parts[:beforeXSAVE]); err != nil {
		return err
	}
	if err := c.SetXSAVE(x); err != nil {
		return err
	}
	return errors.Join(c.restoreMSRs(m, false), c.alignTSC(), set(parts[beforeXSAVE:]), c.restoreMSRs(m, true))
}

// msrTSCDeadline only means something once the time-stamp counter and the local APIC
// are set.
const msrTSCDeadline = 0x6e0

// restoreMSRs writes the deadline timer, or all others. A register that the host refuses
// is fine if it holds the value already: some are read-only.
func (c *vcpu) restoreMSRs(b []byte, deadline bool) error {
	for ; len(b) > 0; b = b[sizeMSR:] {
		m := hv.MSR{Index: binary.LittleEndian.Uint32(b), Value: binary.LittleEndian.Uint64(b[4:])}
		if (m.Index == msrTSCDeadline) != deadline {
			continue
		}
		n, err := c.putMSR(m)
		if err == nil && n == 0 {
			var now uint64
			if now, err = c.MSR(m.Index); err == nil && now != m.Value {
				err = fmt.Errorf("%w: the host refuses %#x", hv.ErrState, m.Value)
			}
		}
		if err != nil {
			return fmt.Errorf("vCPU %d: restore MSR %#x: %w", c.id, m.Index, err)
		}
	}
	return nil
}

// SaveState captures interrupt controllers, timer and clock.
func (v *vm) SaveState() ([]byte, error) {
	b := []byte{stateVersion}
	for id := range uint32(irqChipCount) {
		chip := &irqchip{id: id}
		if _, err := ioctlPtr(v.fd, kvmGetIRQChip, chip); err != nil {
			return nil, fmt.Errorf("get interrupt controller %d: %w", id, err)
		}
		b = appendBlock(b, raw(chip))
	}
	pit, clock := &pitState{}, &clockData{}
	if _, err := ioctlPtr(v.fd, kvmGetPIT2, pit); err != nil {
		return nil, fmt.Errorf("get timer: %w", err)
	}
	if _, err := ioctlPtr(v.fd, kvmGetClock, clock); err != nil {
		return nil, fmt.Errorf("get clock: %w", err)
	}
	return appendBlock(appendBlock(b, raw(pit)), raw(clock)), nil
}

// RestoreState is the inverse of SaveState. The clock goes on where it was, without the
// time that has passed since.
func (v *vm) RestoreState(b []byte) error {
	if len(b) == 0 || b[0] != stateVersion {
		return fmt.Errorf("%w: unknown version", hv.ErrState)
	}
	r := &blocks{b: b[1:]}
	chips := make([]irqchip, irqChipCount)
	for i := range chips {
		r.into(raw(&chips[i]))
	}
	pit, clock := &pitState{}, &clockData{}
	r.into(raw(pit))
	r.into(raw(clock))
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%w: damaged", hv.ErrState)
	}
	if r.err != nil {
		return r.err
	}
	for i := range chips {
		if chips[i].id != uint32(i) {
			return fmt.Errorf("%w: interrupt controller %d in place of %d", hv.ErrState, chips[i].id, i)
		}
		if _, err := ioctlPtr(v.fd, kvmSetIRQChip, &chips[i]); err != nil {
			return fmt.Errorf("set interrupt controller %d: %w: %w", i, hv.ErrState, err)
		}
	}
	if _, err := ioctlPtr(v.fd, kvmSetPIT2, pit); err != nil {
		return fmt.Errorf("set timer: %w: %w", hv.ErrState, err)
	}
	if _, err := ioctlPtr(v.fd, kvmSetClock, &clockData{clock: clock.clock}); err != nil {
		return fmt.Errorf("set clock: %w: %w", hv.ErrState, err)
	}
	return nil
}

// appendBlock appends a length and the bytes.
func appendBlock(dst, b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// blocks takes what appendBlock made apart.
type blocks struct {
	b   []byte
	err error
}

func (r *blocks) next() []byte {
	if r.err != nil || len(r.b) < 4 {
		r.err = fmt.Errorf("%w: truncated", hv.ErrState)
		return nil
	}
	n := binary.LittleEndian.Uint32(r.b)
	if uint64(n) > uint64(len(r.b)-4) {
		r.err = fmt.Errorf("%w: truncated", hv.ErrState)
		return nil
	}
	v := r.b[4 : 4+n]
	r.b = r.b[4+n:]
	return v
}

// into copies the next block to dst, whose size it must have.
func (r *blocks) into(dst []byte) {
	if b := r.next(); r.err == nil {
		if len(b) != len(dst) {
			r.err = fmt.Errorf("%w: block of %d bytes, want %d", hv.ErrState, len(b), len(dst))
			return
		}
		copy(dst, b)
	}
}
