// Package stitch joins files to one virtual disk by describing them as extents of a
// flat VMDK descriptor, and reads such descriptors and disks back. It imports the
// standard library only, never writes or copies the extents, and opens them only for who
// wants to read the disk.
package stitch
