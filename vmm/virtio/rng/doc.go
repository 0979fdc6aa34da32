// Package rng is the virtio entropy device (virtio 1.2 §5.4): random bytes of the host
// for the guest. It may import vmm/virtio and what lies below it; it must never give a
// guest more work of the host's than its rate allows, nor read the guest's buffers.
package rng
