// Package volume keeps the files of named volumes: directories that sandboxes share with
// the host and with each other, and disk images that one of them has at a time. It knows
// their folder, not what a catalogue says of them. It may import other packages of rootfs
// and internal/filelock, and must never import a database, the VMM or the SDK.
//
// The layout and the locks are those of microsandbox 0.6.18, so that official programs and
// ours can use one folder at the same time:
//
//	NAME/             a directory volume
//	NAME/disk.raw     the image of a disk volume: raw, ext4
//	.locks/NAME.lock  a flock around every change of the volume NAME, never unlinked
//	.NAME~*           a volume that is being made or removed
//
// A catalogue lists a volume after its files are there, and forgets it before they go. In
// between the lock file says so; whoever has the lock next cleans up what a killed process
// left.
package volume
