// Package integrity hashes snapshot payloads, reading data and skipping holes, and checks
// them against what a descriptor records. It may import snapshot/descriptor,
// snapshot/sparse and BLAKE3. It must never follow a link, and never report a match for a
// file that changed while it was read.
package integrity

import "errors"

// Errors of this package.
var (
	// ErrMismatch reports a payload that is not what its descriptor records.
	ErrMismatch = errors.New("snapshot payload differs from its recorded digest: do not use it, restore the artefact or remove it")
	// ErrChanged reports a payload that something wrote to while it was hashed.
	ErrChanged = errors.New("snapshot payload changed while it was read: try again when nothing writes to it")
)
