package oci

import "github.com/opencontainers/go-digest"

// EventKind names a step of storing an image.
type EventKind string

// The steps in the order they occur; those about a layer once for each layer.
const (
	EventResolved            EventKind = "resolved"             // Reference, ManifestDigest, Layers, Total (bytes of all blobs)
	EventMaterializeStarted  EventKind = "materialize_started"  // Layer, DiffID, Total
	EventMaterializeProgress EventKind = "materialize_progress" // Layer, Bytes and Total of the blob
	EventMaterializeComplete EventKind = "materialize_complete" // Layer, DiffID
	EventMerging             EventKind = "merging"              // Layers
	EventWriting             EventKind = "writing"              // the root image
	EventComplete            EventKind = "complete"             // Reference, ManifestDigest, Layers
)

// Event reports progress. Fields that Kind does not mention are zero.
type Event struct {
	Kind           EventKind
	Reference      string
	ManifestDigest digest.Digest
	Layer          int // index, bottom is 0
	Layers         int
	DiffID         digest.Digest
	Bytes, Total   int64
}
