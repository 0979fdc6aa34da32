// Package patch changes a root file system before its first boot: it turns a list of
// patches into the tree that an overlay's upper layer starts with ([Bake]), or applies it
// to a directory of the host ([Apply]). It imports rootfs/tree, rootfs/erofs, x/sys and
// the standard library; it must never leave the directory that it is given, whatever
// symbolic links are in it, and never trust an image that it reads.
//
// Both ways run through the same plan of what changes, so that a batch is checked as a
// whole before anything of it is done.
package patch
