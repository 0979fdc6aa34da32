package microsandbox

import (
	"context"
	"maps"
	"os"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/descriptor"
)

// What a snapshot holds. Full snapshots are of SnapshotScopeDisk for all that only looks at
// the disk; see SnapshotArtifact.Memory.
const (
	SnapshotScopeDisk      = "disk"
	SnapshotScopeResumable = "resumable"
)

// SnapshotArtifact is a snapshot on disk whose description is valid and whose payload has
// the recorded size.
type SnapshotArtifact struct{ artefact *snapshot.Artefact }

// Path is the snapshot's directory.
func (s *SnapshotArtifact) Path() string { return s.artefact.Path }

// Digest is the snapshot's identity: "sha256:" and 64 digits. It covers the description,
// and the disk only if its integrity was recorded.
func (s *SnapshotArtifact) Digest() string { return s.artefact.Digest }

// SizeBytes is the size of the disk, of which holes take no space.
func (s *SnapshotArtifact) SizeBytes() *uint64 {
	return bytesOf(&s.artefact.Descriptor.Upper.SizeBytes)
}

// AllocatedBytes is what the disk takes on the host now, nil if that cannot be told.
func (s *SnapshotArtifact) AllocatedBytes() *uint64 {
	info, err := os.Lstat(s.artefact.Payload())
	if err != nil {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	bytes := st.Blocks * 512
	return bytesOf(&bytes)
}

// Memory is what the snapshot has of a machine, nil if it is of a disk alone.
func (s *SnapshotArtifact) Memory() *SnapshotMemory { return snapshotMemory(s.artefact) }

// ImageRef is the image of the sandbox, as it was named.
func (s *SnapshotArtifact) ImageRef() string { return s.artefact.Descriptor.ImageRef }

// ImageManifestDigest is the image that the disk goes with, whatever ImageRef stands for
// by now.
func (s *SnapshotArtifact) ImageManifestDigest() string {
	return s.artefact.Descriptor.ImageManifestDigest
}

// Scope is SnapshotScopeDisk.
func (s *SnapshotArtifact) Scope() string { return SnapshotScopeDisk }

// State tells what the snapshot holds.
func (s *SnapshotArtifact) State() SnapshotState {
	d := s.artefact.Descriptor
	file := &SnapshotFileState{Format: d.Format, Fstype: d.Fstype, UpperFile: d.Upper.File, SizeBytes: uint64(d.Upper.SizeBytes)}
	if i := d.Upper.Integrity; i != nil {
		file.HasIntegrity, file.Integrity = true, SnapshotIntegrity{Algorithm: i.Algorithm, Digest: i.Digest}
		if i.Algorithm == descriptor.MerkleBLAKE3 {
			file.Integrity.Root, file.Integrity.LogicalSize, file.Integrity.LeafSize = i.Digest, uint64(d.Upper.SizeBytes), descriptor.LeafSize
		}
	}
	return SnapshotState{Kind: "file", File: file}
}

// Format is the disk's format: raw or qcow2.
func (s *SnapshotArtifact) Format() string { return s.artefact.Descriptor.Format }

// Fstype is the disk's file system.
func (s *SnapshotArtifact) Fstype() string { return s.artefact.Descriptor.Fstype }

// Parent is the identity of the snapshot that this one is made from, nil if none.
func (s *SnapshotArtifact) Parent() *string { return pointer(s.artefact.Descriptor.Parent) }

// CreatedAt is when the snapshot was made, in UTC and RFC 3339.
func (s *SnapshotArtifact) CreatedAt() string {
	return s.artefact.Descriptor.CreatedAt.UTC().Format(time.RFC3339Nano)
}

// Labels are the labels that it was made with.
func (s *SnapshotArtifact) Labels() map[string]string {
	return maps.Clone(s.artefact.Descriptor.Labels)
}

// SourceSandbox is the sandbox that it was made of, nil if unknown.
func (s *SnapshotArtifact) SourceSandbox() *string {
	return pointer(s.artefact.Descriptor.SourceSandbox)
}

// SnapshotState is what a snapshot holds: File, as Checkpoint is for later releases.
type SnapshotState struct {
	Kind       string // "file"
	File       *SnapshotFileState
	Checkpoint *SnapshotCheckpointState
}

// SnapshotFileState is a disk.
type SnapshotFileState struct {
	Format       string
	Fstype       string
	UpperFile    string // its name in the snapshot's directory
	SizeBytes    uint64
	HasIntegrity bool
	Integrity    SnapshotIntegrity
}

// SnapshotCheckpointState is a machine's memory.
type SnapshotCheckpointState struct{ CheckpointID, ManifestDigest string }

// SnapshotIntegrity binds a disk's content. Root, LogicalSize and LeafSize belong to hash
// trees, whose Digest is the root.
type SnapshotIntegrity struct {
	Algorithm   string
	Digest      string
	Root        string
	LogicalSize uint64
	LeafSize    uint32
}

// SnapshotVerifyReport is what Verify found.
type SnapshotVerifyReport struct {
	Digest string
	Path   string
	Upper  SnapshotUpperVerifyStatus
	// Memory is SnapshotVerified for a full snapshot, whose memory and disks always have
	// checksums, and empty for others.
	Memory string
}

// SnapshotUpperVerifyStatus tells of a disk whether it was compared with anything.
type SnapshotUpperVerifyStatus struct {
	Kind      string // SnapshotVerified or SnapshotNotRecorded
	Algorithm string
	Digest    string
}

// The kinds of SnapshotUpperVerifyStatus.
const (
	SnapshotVerified    = "verified"
	SnapshotNotRecorded = "not_recorded"
)

// Verify reads the disk and compares it with the recorded integrity, if there is one, and
// reads all of a full snapshot. What differs is ErrSnapshotIntegrity.
func (s *SnapshotArtifact) Verify(ctx context.Context) (*SnapshotVerifyReport, error) {
	r := &SnapshotVerifyReport{Digest: s.Digest(), Path: s.Path(), Upper: SnapshotUpperVerifyStatus{Kind: SnapshotNotRecorded}}
	recorded, err := s.artefact.Verify(ctx)
	if err != nil {
		return nil, snapshotError(err)
	}
	if recorded {
		i := s.artefact.Descriptor.Upper.Integrity
		r.Upper = SnapshotUpperVerifyStatus{Kind: SnapshotVerified, Algorithm: i.Algorithm, Digest: i.Digest}
	}
	if s.artefact.Checkpoint() == "" {
		return r, nil
	}
	h, err := openHome()
	if err == nil {
		err = h.verifyMemory(ctx, s.artefact, false)
	}
	r.Memory = SnapshotVerified
	return r, err
}

// availabilityMissing is the availability of a snapshot whose directory is gone.
const availabilityMissing = "missing"

// SnapshotHandle is a snapshot as the index knows it.
type SnapshotHandle struct {
	home home
	row  store.Snapshot
}

// Digest is the snapshot's identity.
func (h *SnapshotHandle) Digest() string { return h.row.Digest }

// Name is the snapshot's name, nil outside the folder of snapshots.
func (h *SnapshotHandle) Name() *string { return pointer(h.row.Name) }

// ParentDigest is the identity of the snapshot that this one is made from, nil if none.
func (h *SnapshotHandle) ParentDigest() *string { return pointer(h.row.ParentDigest) }

// ImageRef is the image of the sandbox, as it was named.
func (h *SnapshotHandle) ImageRef() string { return h.row.ImageRef }

// SizeBytes is the size of the disk, nil if unknown.
func (h *SnapshotHandle) SizeBytes() *uint64 { return bytesOf(h.row.SizeBytes) }

// CreatedAt is when the snapshot was made.
func (h *SnapshotHandle) CreatedAt() time.Time { return h.row.CreatedAt }

// Path is the snapshot's directory.
func (h *SnapshotHandle) Path() string { return h.row.Path }

// Scope is SnapshotScopeDisk or SnapshotScopeResumable.
func (h *SnapshotHandle) Scope() string { return h.row.Scope }

// StateKind is "file" or "checkpoint".
func (h *SnapshotHandle) StateKind() string { return h.row.StateKind }

// Format is the disk's format, nil if there is no disk.
func (h *SnapshotHandle) Format() *string { return pointer(h.row.Format) }

// Fstype is the disk's file system, nil if there is no disk.
func (h *SnapshotHandle) Fstype() *string { return pointer(h.row.Fstype) }

// CheckpointManifestDigest identifies a machine's memory, nil if there is none.
func (h *SnapshotHandle) CheckpointManifestDigest() *string { return pointer(h.row.CheckpointDigest) }

// Memory is what the snapshot has of a machine now, nil if it is of a disk alone.
func (h *SnapshotHandle) Memory() *SnapshotMemory {
	a, err := snapshot.Open(h.row.Path)
	if err != nil || a.Digest != h.row.Digest {
		return nil
	}
	return snapshotMemory(a)
}

// Locality is "embedded".
func (h *SnapshotHandle) Locality() string { return h.row.Locality }

// Availability is "ready", or "missing" if the directory is gone.
func (h *SnapshotHandle) Availability() string { return h.row.Availability }

// MigrationState is "canonical", or how far the official release's conversion of an older
// snapshot is.
func (h *SnapshotHandle) MigrationState() string { return h.row.MigrationState }

// MigrationErrorCode tells why that conversion failed, nil if it did not.
func (h *SnapshotHandle) MigrationErrorCode() *string { return pointer(h.row.MigrationErrorCode) }

// Open opens the snapshot.
func (h *SnapshotHandle) Open(ctx context.Context) (*SnapshotArtifact, error) {
	return Snapshot.Open(ctx, h.row.Path)
}

// Remove deletes the snapshot; see Snapshot.Remove.
func (h *SnapshotHandle) Remove(ctx context.Context, force bool) error {
	return Snapshot.Remove(ctx, h.row.Path, force)
}

func bytesOf(n *int64) *uint64 {
	if n == nil {
		return nil
	}
	u := uint64(max(*n, 0))
	return &u
}
