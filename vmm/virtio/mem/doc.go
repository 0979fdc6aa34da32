// Package mem is the virtio memory device (virtio 1.2 §5.15): a region of guest-physical
// memory of which the guest has some blocks and not others, as many as the host asks for.
// It may import vmm/virtio and what lies below it; it must never decide how much memory
// the guest should have, and never put content into a block.
package mem
