// Package net is the virtio network device (virtio 1.2 §5.1): Ethernet frames between the
// guest's interface and a Backend, whole or with checksums and segmentation left to the
// other side, so that segments of 64 KiB cross the queues. It may import vmm/virtio and
// what lies below it; it must never look into a frame, nor know addresses or policy.
//
// Frames from the guest are handed to the Backend on the goroutine of the transmit queue.
// Frames to the guest come from any goroutine and are copied straight to its buffers.
package net
