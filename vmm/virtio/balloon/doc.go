// Package balloon is the virtio memory balloon (virtio 1.2 §5.5): it gives memory that
// the guest does not use back to the host, and asks the guest for statistics. It may
// import vmm/virtio and what lies below it; it must never decide how large the balloon
// should be, and never do more work for one request than a bounded number of pages.
package balloon
