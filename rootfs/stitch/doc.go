// Package stitch joins files to one virtual disk by describing them as extents of a
// flat VMDK descriptor, and reads such descriptors back. It imports the standard
// library only and never reads or copies the extents.
package stitch
