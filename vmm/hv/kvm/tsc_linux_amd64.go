package kvm

import (
	"errors"

	"golang.org/x/sys/unix"
)

// tsc is how far the time-stamp counters of a VM that was restored are from the host's.
type tsc struct {
	known  bool
	offset uint64
}

// alignTSC gives a vCPU whose state is being restored the time-stamp counter of the first
// one. They had it in common when they were saved; but each was read, and is written, a
// moment after the other, which KVM takes for a difference that the guest wants when it is
// more than a second. A guest whose processors do not agree on the time stands still, or
// worse. Linux before 5.16 cannot do it.
func (c *vcpu) alignTSC() error {
	shared := &c.vm.tsc
	attr := &deviceAttr{group: vcpuTSCControl, attr: vcpuTSCOffset, addr: addressOf(raw(&shared.offset))}
	request, what := uintptr(kvmGetDeviceAttr), "get"
	if shared.known {
		request, what = kvmSetDeviceAttr, "set"
	}
	_, err := ioctlPtr(c.fd, request, attr)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return c.wrap(what+" time-stamp counter", err)
	}
	shared.known = true
	return nil
}
