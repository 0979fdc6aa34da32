// Package vmm is the virtual machine monitor: it composes one microVM from a Config
// (guest memory, virtual processors, virtio-mmio devices, a kernel), runs it, pauses
// it, captures and restores its state, and stops it with a typed Result.
//
// It may import the packages below vmm and the kernel loader. It must never import oci,
// rootfs, netstack, snapshot, guestagent or sdk: it knows nothing of images, policies
// or what the guest runs.
//
// The machine is that of the Linux boot protocol without firmware, ACPI or PCI: devices
// are virtio-mmio version 2 (virtio 1.2 §4.2) announced on the kernel command line,
// processors are described by an MP table, and a reset (0xFE to the i8042 command port)
// is how a guest ends. A kernel of ours that is restored finds an interrupt pending on
// every processor, and by it gets time and entropy through an I/O port before anything else.
package vmm
