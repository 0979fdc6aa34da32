// Package cache keeps images as files a microVM can boot from: for each image one
// read-only EROFS root image and a VMDK descriptor of the root disk, for each
// reference a metadata document. It may import the other image packages and rootfs,
// never a database, the VMM or the SDK. It writes below its directory only, and
// nothing becomes visible there before it is complete and on disk.
package cache
