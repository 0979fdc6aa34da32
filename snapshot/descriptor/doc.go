// Package descriptor is the description of a snapshot, snapshot.json of schema 1: its
// fields, their rules, and the canonical bytes whose SHA-256 is the snapshot's identity.
// It may import the standard library only. It must never do I/O, and never accept what
// it would not write the same way again: an identity must mean one content.
package descriptor

import (
	"errors"
	"time"
)

// FileName is the name of the descriptor in an artefact's directory.
const FileName = "snapshot.json"

// MaxSize bounds an encoded descriptor, in bytes.
const MaxSize = 4 << 20

// Errors of this package.
var (
	// ErrInvalid reports a descriptor that breaks the schema; the text says where.
	ErrInvalid = errors.New("invalid snapshot descriptor")
	// ErrUnsupported reports a valid descriptor of a kind that this release cannot use.
	ErrUnsupported = errors.New("snapshot of an unsupported kind")
)

// Integrity algorithms.
const (
	SHA256       = "sha256"
	SparseSHA256 = "msb-sparse-sha256-v1"
	MerkleBLAKE3 = "msb-file-merkle-blake3-v1"
)

// LeafSize is the block size of [MerkleBLAKE3] in bytes.
const LeafSize = 65536

// Descriptor describes a snapshot of a sandbox's upper disk.
type Descriptor struct {
	CreatedAt           time.Time // nanoseconds; UTC when encoded
	Parent              string    // identity of the parent, empty if none
	ImageRef            string
	ImageManifestDigest string // "sha256:" and 64 hex digits
	SourceSandbox       string // empty if unknown
	Format              string // "raw" or "qcow2"
	Fstype              string // "ext4"
	Upper               Upper
	Labels              map[string]string
	Extensions          map[string]any // JSON values, numbers as json.Number
	Requires            []string       // extensions that a boot must understand
}

// Upper is the payload.
type Upper struct {
	File      string // a plain name in the artefact's directory
	SizeBytes int64  // apparent size
	Integrity *Integrity
}

// Integrity binds the payload's content.
type Integrity struct {
	Algorithm string
	// Digest is "sha256:" or, for [MerkleBLAKE3], "blake3:" and 64 lowercase hex digits.
	Digest string
}
