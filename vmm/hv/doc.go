// Package hv is the hypervisor as the monitor sees it: one virtual machine, its virtual
// processors, and the exits they make. It holds interfaces, plain values and the errors
// that implementations wrap.
//
// It may import the standard library only, and it must never contain code of a specific
// hypervisor: that lives in vmm/hv/kvm and its siblings.
package hv
