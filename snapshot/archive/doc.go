// Package archive moves snapshots between machines in one file: a tar archive, zstd
// compressed or not, of descriptors, payloads with their holes and, on request, the files
// of the images that they need, as microsandbox 0.6.18 writes and reads it; it reads those
// of 0.5.7 too. Checkpoints of machines go along, which only gomsb reads. It may import
// the other snapshot packages, zstd and BLAKE3. It must never
// trust an archive: nothing is written outside the directory that the caller gives, and
// what was unpacked is good only if Unpack said so.
package archive

import "errors"

// Errors of this package.
var (
	// ErrArchive reports an archive that is damaged, cut short, or none of ours; the text
	// says where.
	ErrArchive = errors.New("not a good snapshot archive")
	// ErrMismatch reports a member that is not what the archive's inventory says.
	ErrMismatch = errors.New("the snapshot archive was damaged or tampered with")
	// ErrUnsupported reports an archive that demands what this release does not know.
	ErrUnsupported = errors.New("the snapshot archive needs a newer release")
	// ErrLimit reports an archive that exceeds the limits on hostile input.
	ErrLimit = errors.New("the snapshot archive exceeds a limit")
)

// Limits on what an archive may demand. Payloads are bounded by the disk only: runs of
// zeros in them take no space.
const (
	maxMembers  = 1 << 16
	maxExtents  = 1 << 22   // of one member: 64 MiB of memory
	maxDocument = 4 << 20   // bytes of archive.json
	maxImage    = 128 << 20 // bytes of an image's metadata
	maxPadding  = 1 << 20   // bytes of zeros after the end mark
)

// Kinds of members, as the inventory names them.
const (
	kindDescriptor = "snapshot-descriptor"
	kindPayload    = "file-payload"
	kindMetadata   = "image-metadata"
	kindObject     = "image-object" // there is one more: kindCheckpoint
	kindInventory  = "inventory"    // which does not list itself
)

// inventoryName is the member that lists the others, the last one.
const inventoryName = "archive.json"
