package oci

import "github.com/opencontainers/go-digest"

// EventKind names a step of storing an image.
type EventKind string

// The steps. Those about a layer come once for each layer and, as layers are handled
// several at a time, in any order among layers; a layer is converted while it arrives.
const (
	EventResolving           EventKind = "resolving"            // Reference
	EventResolved            EventKind = "resolved"             // Reference, ManifestDigest, Layers, Total (bytes of all blobs)
	EventDownloadProgress    EventKind = "download_progress"    // Layer, BlobDigest, Bytes and Total of the blob
	EventDownloadComplete    EventKind = "download_complete"    // Layer, BlobDigest, Bytes
	EventMaterializeStarted  EventKind = "materialize_started"  // Layer, DiffID, Total
	EventMaterializeProgress EventKind = "materialize_progress" // Layer, Bytes and Total of the blob
	EventMaterializeComplete EventKind = "materialize_complete" // Layer, DiffID
	EventMerging             EventKind = "merging"              // Layers
	EventWriting             EventKind = "writing"              // the image over the layers
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
	BlobDigest     digest.Digest
	Bytes, Total   int64
}
