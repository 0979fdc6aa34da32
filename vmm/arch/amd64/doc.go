// Package amd64 prepares an x86-64 guest: where memory and the kernel go, the Linux boot
// protocol (Documentation/arch/x86/boot.rst, 64-bit entry), the MP table that describes
// processors and interrupts (Intel MultiProcessor Specification 1.4), registers, and
// what the CPUID instruction shows, as tables.
//
// It may import vmm/memory and vmm/hv. It must never call a hypervisor's own interface,
// nor know devices.
package amd64
