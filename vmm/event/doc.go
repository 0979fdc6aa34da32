// Package event provides the eventfd(2) through which the kernel and the monitor signal
// each other: KVM signals a queue notification (ioeventfd), the monitor an interrupt
// (irqfd). Goroutines wait on one through the Go poller, without a thread, or with one where
// each wake-up counts.
//
// It may import the standard library, x/sys and gVisor's rawfile; it must never know what is signalled.
package event
