package microsandbox

import (
	"context"
	"path/filepath"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// WithFromSnapshot starts from a snapshot: its image, and a copy of its disk for the
// root's changes. See Snapshot for what a snapshot may be called. It excludes an image and
// a root disk; everything else that the source sandbox was created with counts for nothing.
//
// If the snapshot has memory, the sandbox goes on from there instead, unless WithDiskOnly
// is given: see Restore.
func WithFromSnapshot(snapshot string) SandboxOption {
	return func(c *SandboxConfig) { c.Snapshot = snapshot }
}

// checkSnapshot refuses what does not go with a snapshot.
func (c *SandboxConfig) checkSnapshot() error {
	switch {
	case c.Snapshot == "" && (c.DiskOnly || c.TrustConfig):
		return fail(ErrInvalidConfig, "disk only, and trust in a configuration, belong to a snapshot")
	case c.Snapshot == "":
		return nil
	case c.DiskOnly && c.TrustConfig:
		return fail(ErrInvalidConfig, "a sandbox that starts from a disk alone gets nothing of the snapshot's configuration: leave the trust in it out")
	case c.Image+c.ImageBind != "":
		return fail(ErrInvalidConfig, "the root is either image %s or snapshot %s", c.Image+c.ImageBind, c.Snapshot)
	case c.RootDisk != nil:
		return fail(ErrInvalidConfig, "a root disk goes with an OCI image, not with a snapshot, which has its own")
	}
	return nil
}

// resolveSnapshot opens the snapshot that a sandbox starts from, and gets the image that
// it is of: the one that it names by its digest, never what the tag stands for by now.
func resolveSnapshot(ctx context.Context, h home, c *SandboxConfig) rootImage {
	a, err := h.openSnapshot(ctx, c.Snapshot)
	if err == nil {
		err = bootable(a)
	}
	if err != nil {
		return rootImage{err: err}
	}
	r, err := pinnedImage(a)
	if err != nil {
		return rootImage{err: err}
	}
	policy := c.PullPolicy
	if policy == PullPolicyAlways {
		policy = PullPolicyIfMissing // the same digest is the same image
	}
	img, pulled, err := h.pull(ctx, r.String(), c.pullOptions(policy))
	if err != nil {
		return rootImage{err: imageMissing(a, err)}
	}
	return rootImage{image: img, pulled: pulled, snapshot: a}
}

// bootable refuses snapshots that this release cannot start from.
func bootable(a *snapshot.Artefact) error {
	d := a.Descriptor
	switch {
	case d.Format != "raw" || d.Fstype != "ext4":
		return fail(ErrUnsupportedOperation, "snapshot %s holds a %s disk with %s: this release starts from raw disks with ext4", filepath.Base(a.Path), d.Format, d.Fstype)
	case len(d.Requires) > 0:
		return fail(ErrUnsupportedOperation, "snapshot %s needs %q, which this release does not know: use the release that made it", filepath.Base(a.Path), d.Requires)
	}
	return nil
}

// copySnapshot makes the root disk of a new sandbox in dir a copy of a snapshot's.
func copySnapshot(ctx context.Context, a *snapshot.Artefact, dir string) error {
	if err := sparse.CopyFile(ctx, filepath.Join(dir, upperName), a.Payload(), 0o600); err != nil {
		return snapshotError(err)
	}
	return sameSnapshot(a)
}

// sameSnapshot reports a snapshot that was replaced or removed after it was opened: what was
// taken from its path since may be of different ones.
func sameSnapshot(a *snapshot.Artefact) error {
	if now, err := snapshot.Open(a.Path); err != nil || now.Digest != a.Digest {
		return &Error{Kind: ErrSnapshotNotFound, Message: "snapshot " + a.Path + " was removed or replaced while it was copied: try again", Cause: err}
	}
	return nil
}
