package kvm

import (
	"errors"

	"golang.org/x/sys/unix"
)

// TellPaused sets PVCLOCK_GUEST_STOPPED in the guest's clock at the next Run. KVM refuses
// with EINVAL if the guest has not set up that clock, as it need not.
func (c *vcpu) TellPaused() error {
	if _, err := ioctl(c.fd, kvmKVMClockCtrl, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return c.wrap("tell the guest that it was paused", err)
	}
	return nil
}
