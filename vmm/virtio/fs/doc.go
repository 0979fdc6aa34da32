// Package fs is the virtio file system device (virtio 1.2 §5.11): it carries FUSE
// requests from the guest to a server of the host. It may import vmm/virtio and what lies
// below it; it must never know files, paths or policy, nor more of FUSE than the header
// that every request begins with.
//
// One goroutine takes requests from each queue. It serves by itself what is over at once,
// as most requests are; all that waits for a disk goes to a few workers, so that a slow
// request does not hold up others. A request that waits for another one, a lock, is put
// aside and tried again. Data moves between the server and guest memory without a copy.
package fs
