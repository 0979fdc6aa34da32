//go:build !linux || !amd64

package kvm

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/hv"
)

// KVM is an open KVM device, which exists on Linux only; this implementation is for
// x86-64.
type KVM struct{}

// Open reports that there is no KVM here.
func Open(string) (*KVM, error) {
	return nil, fmt.Errorf("%w: %w: needs Linux on x86-64", ErrNoDevice, hv.ErrUnsupported)
}

// CreateVM is not available here.
func (*KVM) CreateVM() (hv.VM, error) { return nil, hv.ErrUnsupported }

// SupportedCPUID is not available here.
func (*KVM) SupportedCPUID() ([]hv.CPUIDEntry, error) { return nil, hv.ErrUnsupported }

// Hardware reports false.
func (*KVM) Hardware() bool { return false }

// Close does nothing.
func (*KVM) Close() error { return nil }
