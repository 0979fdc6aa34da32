// Package console is the virtio console device (virtio 1.2 §5.3): byte streams between
// the guest's /dev/hvc0 or its named ports and writers and readers of the host. It may
// import vmm/virtio and what lies below it; it must never interpret the bytes, and never
// let a slow or failed writer of the host stop the guest for ever.
//
// A console port is lossy: the guest's kernel spins while it prints, so after a short
// patience with a writer that does not move, output is dropped and counted. A named port
// is not: the guest's program waits. Either way the device holds a bounded number of
// bytes.
//
// One mutex guards all queues. Writers and readers of the host run on goroutines of
// their own, which never touch guest memory: one for each port with something to write,
// one for each Input.
package console
