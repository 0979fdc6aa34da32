package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/vmm/hv"
)

func (c *vcpu) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("vCPU %d: %s: %w", c.id, what, err)
}

func (c *vcpu) Registers() (r hv.Registers, err error) {
	_, err = ioctlPtr(c.fd, kvmGetRegs, &r)
	return r, c.wrap("get registers", err)
}

func (c *vcpu) SetRegisters(r hv.Registers) error {
	_, err := ioctlPtr(c.fd, kvmSetRegs, &r)
	return c.wrap("set registers", err)
}

func (c *vcpu) SystemRegisters() (s hv.SystemRegisters, err error) {
	_, err = ioctlPtr(c.fd, kvmGetSregs, &s)
	return s, c.wrap("get system registers", err)
}

func (c *vcpu) SetSystemRegisters(s hv.SystemRegisters) error {
	_, err := ioctlPtr(c.fd, kvmSetSregs, &s)
	return c.wrap("set system registers", err)
}

func (c *vcpu) SetCPUID(entries []hv.CPUIDEntry) error {
	if len(entries) > maxCPUIDEntries {
		return fmt.Errorf("vCPU %d: %d CPUID entries, at most %d", c.id, len(entries), maxCPUIDEntries)
	}
	if _, err := ioctlBytes(c.fd, kvmSetCPUID2, encodeCPUID(entries)); err != nil {
		return c.wrap("set CPUID", err)
	}
	c.cpuid = append(c.cpuid[:0], entries...)
	return nil
}

func (c *vcpu) CPUID() []hv.CPUIDEntry { return c.cpuid }

func (c *vcpu) SetMSRs(msrs []hv.MSR) error {
	for _, m := range msrs {
		n, err := c.putMSR(m)
		if err == nil && n != 1 {
			err = fmt.Errorf("%w: the host refuses %#x", unix.EINVAL, m.Value)
		}
		if err != nil {
			return fmt.Errorf("vCPU %d: set MSR %#x: %w", c.id, m.Index, err)
		}
	}
	return nil
}

// putMSR writes one register and returns 0 if the host refuses the value.
func (c *vcpu) putMSR(m hv.MSR) (int, error) {
	c.msr.n, c.msr.entries[0] = 1, msrEntry{index: m.Index, value: m.Value}
	return ioctlPtr(c.fd, kvmSetMSRs, &c.msr)
}

func (c *vcpu) MSR(index uint32) (uint64, error) {
	c.msr.n, c.msr.entries[0] = 1, msrEntry{index: index}
	n, err := ioctlPtr(c.fd, kvmGetMSRs, &c.msr)
	if err == nil && n != 1 {
		err = fmt.Errorf("%w: this processor has none", unix.EINVAL)
	}
	if err != nil {
		return 0, fmt.Errorf("vCPU %d: get MSR %#x: %w", c.id, index, err)
	}
	return c.msr.entries[0].value, nil
}

func (c *vcpu) XCR0() (uint64, error) {
	var x xcrs
	if _, err := ioctlPtr(c.fd, kvmGetXCRs, &x); err != nil {
		return 0, c.wrap("get XCR0", err)
	}
	for _, r := range x.regs[:min(x.n, uint32(len(x.regs)))] {
		if r.number == 0 {
			return r.value, nil
		}
	}
	return 0, c.wrap("get XCR0", hv.ErrUnsupported)
}

func (c *vcpu) SetXCR0(v uint64) error {
	x := xcrs{n: 1}
	x.regs[0].value = v
	_, err := ioctlPtr(c.fd, kvmSetXCRs, &x)
	return c.wrap("set XCR0", err)
}

func (c *vcpu) SetFPU(fcw uint16, mxcsr uint32) error {
	_, err := ioctlPtr(c.fd, kvmSetFPU, &fpu{fcw: fcw, mxcsr: mxcsr})
	return c.wrap("set FPU", err)
}

func (c *vcpu) XSAVE() ([]byte, error) {
	request := uintptr(kvmGetXSAVE)
	if len(c.xsave) > sizeXSAVE {
		request = kvmGetXSAVE2
	}
	_, err := ioctlBytes(c.fd, request, c.xsave)
	return c.xsave, c.wrap("get XSAVE", err)
}

func (c *vcpu) SetXSAVE(b []byte) error {
	if len(b) != len(c.xsave) {
		return fmt.Errorf("vCPU %d: %w: XSAVE area of %d bytes, want %d", c.id, hv.ErrState, len(b), len(c.xsave))
	}
	_, err := ioctlBytes(c.fd, kvmSetXSAVE, b)
	return c.wrap("set XSAVE", err)
}

func (c *vcpu) InjectException(vector uint8, hasCode bool, code uint32) error {
	e := &c.event
	if _, err := ioctlPtr(c.fd, kvmGetVCPUEvents, e); err != nil {
		return c.wrap("get events", err)
	}
	e.exception.injected, e.exception.nr, e.exception.code, e.exception.hasCode, e.exception.pending = 1, vector, code, 0, 0
	if hasCode {
		e.exception.hasCode = 1
	}
	_, err := ioctlPtr(c.fd, kvmSetVCPUEvents, e)
	return c.wrap("inject exception", err)
}
