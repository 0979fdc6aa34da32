// Package virtio is the part of virtio 1.2 that every device shares: the split virtqueue
// (§2.7), the memory-mapped transport (§4.2) with its status machine and feature
// negotiation (§3.1), and the goroutine that serves a queue.
//
// It may import vmm/memory and vmm/event. It must never know a device type, nor files,
// sockets or policy. Everything that it reads from guest memory is hostile: it is read
// once, checked, and bounded, and what breaks the protocol puts the device into
// DEVICE_NEEDS_RESET.
package virtio
