// Package hostlink is the guest's side of the connections between agent and host: streams
// of virtio-vsock to well-known ports of the host. It may import the standard library and
// x/sys; it must never know what goes over them.
package hostlink
