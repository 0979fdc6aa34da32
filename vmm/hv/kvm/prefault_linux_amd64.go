package kvm

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/hv"
)

// PreFault maps memory by KVM_PRE_FAULT_MEMORY, which Linux 6.11 brought and which needs
// two-dimensional paging.
func (c *vcpu) PreFault(addr, size uint64) error {
	for arg := (preFault{addr: addr, size: size}); arg.size > 0; { // it may stop early
		left := arg.size
		_, err := ioctlPtr(c.fd, kvmPreFaultMemory, &arg)
		if err == nil && arg.size >= left {
			err = fmt.Errorf("no progress at %#x", arg.addr)
		}
		if err != nil {
			return c.wrap("map memory ahead", fmt.Errorf("%w: %w", hv.ErrUnsupported, err))
		}
	}
	return nil
}
