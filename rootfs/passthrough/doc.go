// Package passthrough is a FUSE server (protocol 7.38, include/uapi/linux/fuse.h) over a
// directory of the host: what a virtio-fs device of the guest shows. It may import x/sys
// and the standard library; it must never import the VMM, and never take a path, a name,
// a number or a time from the guest for anything but what it claims to be.
//
// The guest's kernel is hostile. A file is known by a node, found by one name below
// another node, and reached by openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and
// RESOLVE_NO_MAGICLINKS from that node's own descriptor, whose inode is compared with the
// one that was looked up; a name is a single component, never "." or "..". So nothing
// outside the shared directory can be named, whatever moves meanwhile. Only regular files
// and directories are ever opened for more than their path.
//
// A node needs a descriptor only while it is used: at most a budget of them stays open,
// and the others are opened again, by name. Nodes, handles and memory are bounded.
//
// Owner, mode and type that the guest gives to files are not the host's: they are kept in
// an extended attribute (see StatMode), so that the server needs no privileges.
package passthrough
