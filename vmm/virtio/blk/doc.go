// Package blk is the virtio block device (virtio 1.2 §5.2) and the backends that turn
// files of the host into disks. It may import vmm/virtio and what lies below it, and
// x/sys; it must never guess a format from a disk's content, take a path from a disk's
// content, or map a file into memory: a file that shrinks under the guest is an I/O
// error of the guest's, not a fault of the host's.
//
// One goroutine takes requests from the queue. It serves by itself what does not block:
// reads of cached data and short writes of a guest that waits for them. All else goes to
// a few workers, so that a slow flush does not hold up reads. Data moves between file
// and guest memory in one copy, by preadv(2) and pwritev(2).
package blk
