// Package flat keeps images as whole ext4 file systems, of which each sandbox with a flat
// root gets a copy of its own. It imports the other packages of rootfs, internal/filelock
// and the standard library; it must never pull an image or know about sandboxes. Its
// folder can be shared with microsandbox 0.6.18.
package flat
