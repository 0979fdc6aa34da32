package kvm

import "errors"

// MaxVCPUs is the largest number of virtual processors of a VM.
const MaxVCPUs = 32

// Reasons why a virtual machine cannot be created; each text says what to do.
var (
	// ErrNoDevice reports that the host offers no KVM device.
	ErrNoDevice = errors.New("no KVM device: enable virtualization in the firmware, load the kvm module, or, inside a VM or container, have /dev/kvm passed in")
	// ErrPermission reports that this user may not open the device.
	ErrPermission = errors.New("no permission for the KVM device: join the group that owns it (usually 'kvm') and log in again, or run as root")
	// ErrBusy reports that another hypervisor holds the processor's virtualization.
	ErrBusy = errors.New("the processor's virtualization is in use by another hypervisor: stop it and try again")
	// ErrNotKVM reports a device that does not speak the KVM API, version 12.
	ErrNotKVM = errors.New("not a KVM device")
)
