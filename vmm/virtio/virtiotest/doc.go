// Package virtiotest is a model of the guest's driver for tests of virtio devices: it
// speaks to the memory-mapped transport through its registers and lays split virtqueues
// out by hand in real guest memory (virtio 1.2 §2.7, §3.1, §4.2), well or, if a test
// wants that, badly.
//
// It may import vmm/virtio, vmm/memory and testify; it must never know a device type,
// and no package but a test may import it. A Driver belongs to the goroutine of its
// test.
package virtiotest
