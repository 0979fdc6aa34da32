// Package erofs writes and reads EROFS images: the read-only root file systems that a
// microVM mounts. It imports rootfs/tree and the standard library only, never mounts
// anything, runs no external program and never trusts an image it reads: every
// address is checked and all work is bounded.
//
// Images are uncompressed, in 4096-byte blocks with 64-byte inodes, and a function of
// the tree alone: equal trees give equal bytes. The format is the one Linux documents
// in Documentation/filesystems/erofs.rst; the exact choices are listed at Build.
package erofs
