// Package cache keeps images as files a microVM can boot from: for each layer one
// read-only EROFS image that all images share, for each image a small EROFS image over
// its layers (fsmeta) and a VMDK descriptor that joins both to the root disk, for each
// reference a metadata document. It may import the other image packages and rootfs,
// never a database, the VMM or the SDK. It writes below its directory only, and nothing
// becomes visible there before it is complete and on disk. The directory can be shared
// with microsandbox 0.6.18.
package cache
