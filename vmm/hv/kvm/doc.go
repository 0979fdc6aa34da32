// Package kvm runs virtual machines on Linux KVM, x86-64, through plain ioctls
// (Documentation/virt/kvm/api.rst): in-kernel interrupt controllers and timer, queue
// kicks through ioeventfd, interrupts through irqfd.
//
// It may import vmm/hv, the standard library and x/sys. It must never know about boot
// protocols, devices or guest memory beyond mapping it, and it never uses cgo.
//
// # Threads and signals
//
// VCPU.Run enters the guest by a system call that the Go scheduler does not know about:
// most stays are short, and a scheduler that watches them takes the processor (P) of the
// thread away every time, which wakes threads for nothing. Its preemption signal, which it
// sends after 10 ms or for a garbage collection, ends the stay; the guest is entered again
// by a call that the scheduler does know about, so that a guest that computes or sleeps
// holds no P and blocks no garbage collection. While the guest runs, its thread takes no
// other signal but the one of Kick (KVM_SET_SIGNAL_MASK). Kick sets immediate_exit before
// it signals, so that it works whether the thread is inside, about to enter or outside the
// guest; only it ends Run.
package kvm
