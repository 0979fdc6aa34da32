// Package ext4 writes ext4 file systems into image files and grows them, for the
// writable disks of a microVM: uppers, volumes and flat roots. It imports rootfs/tree
// and the standard library only, never mounts anything, runs no external program and
// never trusts an image it reads: a guest may have written every byte of it.
//
// Created images are sparse and a function of their options alone: equal options give
// equal bytes. Nothing is left for the guest to initialise. The format is the one
// Linux documents in Documentation/filesystems/ext4; the exact choices are listed at
// Create. They are those of microsandbox 0.6.18, which can grow our images as we can
// grow its.
package ext4
