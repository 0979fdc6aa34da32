// Package kvm runs virtual machines on Linux KVM, x86-64, through plain ioctls
// (Documentation/virt/kvm/api.rst): in-kernel interrupt controllers and timer, queue
// kicks through ioeventfd, interrupts through irqfd.
//
// It may import vmm/hv, the standard library and x/sys. It must never know about boot
// protocols, devices or guest memory beyond mapping it, and it never uses cgo.
//
// # Threads and signals
//
// VCPU.Run enters the guest by a system call that the Go scheduler knows about, so a
// running guest holds no P and blocks no garbage collection. While the guest runs, its
// thread takes no signal but the one of Kick (KVM_SET_SIGNAL_MASK): the Go runtime's
// preemption signals wait until the next exit instead of causing one. Kick sets
// immediate_exit before it signals, so that it works whether the thread is inside,
// about to enter or outside the guest.
package kvm
