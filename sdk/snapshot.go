package microsandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot"
	snapshotarchive "github.com/gomsb/gomsb/snapshot/archive"
	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/integrity"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

type snapshotFactory struct{}

// Snapshot works on snapshots of sandboxes' disks. A snapshot is a directory that can be
// moved and copied; those in the data root's folder of snapshots have names. Functions
// that take a snapshot take such a name, a path, which holds a slash or begins with a dot
// or a tilde, or an identity, "sha256:" and 64 digits.
var Snapshot snapshotFactory

// SnapshotCreateOptions are the options of Snapshot.Create.
type SnapshotCreateOptions struct {
	Name            string            // of the new snapshot; required
	FromSandbox     string            // that does not run; required
	DestDir         string            // to make it in, instead of the folder of snapshots
	Labels          map[string]string // to keep with it
	Force           bool              // replace what has the name
	RecordIntegrity bool              // hash the disk, for Verify
	Resumable       bool              // with memory, of a sandbox that runs or is paused
}

// Create copies the root disk of a stopped sandbox; only a managed root disk can be
// copied. Killed at any point, it leaves the name as it was.
//
// With Resumable it saves a running or paused sandbox, which stands still for a moment and
// goes on: processes and memory, and all disks that the guest can write to, of one moment.
// Such a full snapshot restores either the machine, see Restore, or, with WithDiskOnly and
// in other releases, the root disk alone.
func (snapshotFactory) Create(ctx context.Context, o SnapshotCreateOptions) (*SnapshotArtifact, error) {
	switch {
	case o.Name == "":
		return nil, fail(ErrInvalidConfig, "snapshot name must not be empty")
	case o.FromSandbox == "":
		return nil, fail(ErrInvalidConfig, "a snapshot needs the sandbox that it is of")
	}
	if _, empty := o.Labels[""]; empty {
		return nil, fail(ErrInvalidConfig, "label key must not be empty")
	}
	if err := snapshot.ValidateName(o.Name); err != nil {
		return nil, snapshotError(err)
	}
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(orDefault(o.DestDir, h.snapshots()))
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	c, row, err := find(ctx, h, o.FromSandbox)
	if err != nil {
		return nil, err
	}
	defer c.close()
	cfg, release, err := c.snapshotSource(ctx, row, o.Resumable)
	if err != nil {
		return nil, err
	}
	defer release()
	cfg.Dir, cfg.Name, cfg.Labels, cfg.Integrity, cfg.Force = dir, o.Name, o.Labels, o.RecordIntegrity, o.Force
	if o.RecordIntegrity {
		if cfg.Extensions, err = h.layerSums(ctx, cfg); err != nil {
			return nil, err
		}
	}
	a, err := snapshot.Create(ctx, cfg)
	if err != nil {
		return nil, snapshotError(err)
	}
	c.index(context.WithoutCancel(ctx), a)
	return &SnapshotArtifact{a}, nil
}

// snapshotSource describes a sandbox as the source of a snapshot, which it can be until
// release is called.
func (c *catalog) snapshotSource(ctx context.Context, row store.Sandbox, full bool) (cfg snapshot.Config, release func(), err error) {
	if full {
		cfg, err = c.fullConfig(ctx, row)
		return cfg, func() {}, err
	}
	if release, err = c.rest(ctx, row); err != nil {
		return cfg, nil, err
	}
	if cfg, err = c.home.diskConfig(row); err != nil {
		release()
	}
	return cfg, release, err
}

// restPatience is how long another snapshot of the same sandbox may take.
const restPatience = time.Minute

// rest makes sure that a sandbox is stopped and stays so until release is called.
func (c *catalog) rest(ctx context.Context, row store.Sandbox) (release func(), err error) {
	stopped := func() error {
		fresh, err := c.again(ctx, row)
		if err == nil && live(fresh.Status) {
			err = fail(ErrSnapshotSandboxRunning, "snapshot source sandbox '%s' is not stopped", row.Name)
		}
		return err
	}
	if err := stopped(); err != nil {
		return nil, err
	}
	lock, err := c.home.lock(ctx, row.Name, stopped)
	for begin := time.Now(); IsKind(err, ErrSandboxStillRunning); {
		// It is stopped, so it may be that another snapshot of it is being made.
		if time.Since(begin) > restPatience {
			return nil, fail(ErrSnapshotSandboxRunning, "snapshot source sandbox '%s' is busy: being started, stopped or copied", row.Name)
		}
		lock, err = c.home.lock(ctx, row.Name, stopped)
	}
	if err != nil {
		return nil, err
	}
	if err := stopped(); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return func() { _ = lock.Release() }, nil
}

// snapshotConfigOf describes a sandbox with a configuration as the source of a snapshot,
// without its disk.
func snapshotConfigOf(name, config string) (snapshot.Config, error) {
	s, err := parseSpec(config)
	if err != nil {
		return snapshot.Config{}, wrap(ErrInternal, err)
	}
	refuse := func(what string) (snapshot.Config, error) {
		return snapshot.Config{}, fail(ErrInvalidConfig, "sandbox '%s' %s; only managed root disks of OCI images can", name, what)
	}
	if s.Image.OCI == nil || value(s.ManifestDigest) == "" {
		return refuse("was not created from an OCI image and cannot be snapshotted")
	}
	switch s.Image.OCI.RootDisk.Kind {
	case rootDiskManaged:
	case rootDiskTmpfs:
		return refuse("uses a tmpfs root disk, which is ephemeral and cannot be snapshotted")
	case rootDiskImage:
		return refuse("uses a root disk image of yours, which cannot be snapshotted: copy the file instead")
	default:
		return refuse("uses a " + s.Image.OCI.RootDisk.Kind + " root disk, which cannot be snapshotted")
	}
	return snapshot.Config{ImageRef: s.Image.OCI.Reference, ImageManifestDigest: *s.ManifestDigest, SourceSandbox: name, CreatedAt: time.Now()}, nil
}

// diskConfig describes a sandbox that is at rest as the source of a snapshot.
func (h home) diskConfig(row store.Sandbox) (snapshot.Config, error) {
	cfg, err := snapshotConfigOf(row.Name, row.Config)
	if err != nil {
		return cfg, err
	}
	upper := filepath.Join(h.sandbox(row.Name), upperName)
	if _, err := os.Lstat(upper); errors.Is(err, fs.ErrNotExist) {
		return snapshot.Config{}, fail(ErrIO, "source sandbox '%s' has no %s at %s", row.Name, upperName, upper)
	}
	disk, err := launch.LockDisk(upper, true)
	if errors.Is(err, launch.ErrDiskBusy) { // by a runtime that the catalogue knows nothing of
		return snapshot.Config{}, &Error{Kind: ErrSnapshotSandboxRunning, Message: fmt.Sprintf("snapshot source sandbox '%s' is not stopped", row.Name), Cause: err}
	}
	if err != nil {
		return snapshot.Config{}, wrap(ErrIO, err)
	}
	_ = disk.Close() // the sandbox's lock keeps others out from here on
	cfg.Upper = upper
	return cfg, nil
}

// Dir is the folder of snapshots.
func (snapshotFactory) Dir() (string, error) {
	h, err := openHome()
	return h.snapshots(), err
}

// Snapshot copies the root disk of the stopped sandbox; see Snapshot.Create.
func (h *SandboxHandle) Snapshot(ctx context.Context, name string) (*SnapshotArtifact, error) {
	return Snapshot.Create(ctx, SnapshotCreateOptions{Name: name, FromSandbox: h.row.Name})
}

// snapshotError gives an error of package snapshot its kind.
func snapshotError(err error) error {
	if err == nil {
		return nil
	}
	kinds := []struct {
		class error
		kind  ErrorKind
	}{
		{context.Canceled, ErrCancelled}, {context.DeadlineExceeded, ErrCancelled},
		{snapshot.ErrName, ErrInvalidConfig}, {snapshot.ErrExists, ErrSnapshotAlreadyExists}, {snapshot.ErrLegacy, ErrSnapshotMigration},
		{snapshotarchive.ErrMismatch, ErrSnapshotIntegrity}, {snapshotarchive.ErrArchive, ErrInvalidConfig}, {snapshotarchive.ErrLimit, ErrInvalidConfig}, {snapshotarchive.ErrUnsupported, ErrUnsupportedOperation},
		{integrity.ErrMismatch, ErrSnapshotIntegrity}, {integrity.ErrChanged, ErrSnapshotIntegrity}, {snapshot.ErrPayload, ErrSnapshotIntegrity},
		{descriptor.ErrUnsupported, ErrUnsupportedOperation}, {sparse.ErrUnsupported, ErrUnsupportedOperation}, {descriptor.ErrInvalid, ErrInvalidConfig},
		{snapshot.ErrNotFound, ErrSnapshotNotFound},
	}
	for _, k := range kinds {
		if errors.Is(err, k.class) {
			return wrap(k.kind, err)
		}
	}
	return wrap(ErrIO, err)
}

// isSnapshotPath tells a path from a name.
func isSnapshotPath(s string) bool {
	return strings.Contains(s, "/") || strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~")
}

// locateSnapshot returns the path of a snapshot that a person named.
func (h home) locateSnapshot(ctx context.Context, arg string) (string, error) {
	if isSnapshotPath(arg) {
		return arg, nil
	}
	dir := h.snapshots()
	if descriptor.IsDigest(arg, "sha256:") {
		return h.snapshotByDigest(ctx, dir, arg)
	}
	if arg == "" {
		return "", fail(ErrInvalidArgument, "snapshot name must not be empty")
	}
	return filepath.Join(dir, arg), nil
}

// snapshotByDigest looks an identity up in the index and, as that is a cache, in dir. What
// the index says is not believed if another snapshot has that place by now.
func (h home) snapshotByDigest(ctx context.Context, dir, digest string) (string, error) {
	indexed, err := h.indexedPath(ctx, digest)
	if err != nil {
		return "", err
	}
	if indexed != "" {
		a, err := snapshot.Open(indexed)
		switch {
		case err == nil && a.Digest == digest:
			return indexed, nil
		case err == nil:
			indexed = ""
		}
	}
	all, err := snapshot.List(dir, nil)
	if err != nil {
		return "", snapshotError(err)
	}
	for _, a := range all {
		if a.Digest == digest {
			return a.Path, nil
		}
	}
	if indexed == "" {
		return "", fail(ErrSnapshotNotFound, "snapshot not found: %s", digest)
	}
	return indexed, nil // gone or damaged, which is for the caller to find
}

// indexedPath is where the index has an identity, empty if it does not.
func (h home) indexedPath(ctx context.Context, digest string) (string, error) {
	c, err := openCatalog(ctx, h, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer c.close()
	row, err := c.store.Snapshot(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return row.Path, wrap(ErrInternal, err)
}

// openSnapshot opens a snapshot that a person named.
func (h home) openSnapshot(ctx context.Context, arg string) (*snapshot.Artefact, error) {
	path, err := h.locateSnapshot(ctx, arg)
	if err != nil {
		return nil, err
	}
	a, err := snapshot.Open(path)
	return a, snapshotError(err)
}

// Open opens a snapshot; its disk is not read.
func (snapshotFactory) Open(ctx context.Context, snapshot string) (*SnapshotArtifact, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	a, err := h.openSnapshot(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	if filepath.Dir(a.Path) == h.snapshots() {
		if c, err := openCatalog(ctx, h, true); err == nil {
			defer c.close()
			c.indexNew(ctx, a)
		}
	}
	return &SnapshotArtifact{a}, nil
}

// Get opens a snapshot and returns what the index knows of it.
func (snapshotFactory) Get(ctx context.Context, snapshot string) (*SnapshotHandle, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	a, err := h.openSnapshot(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	c, err := openCatalog(ctx, h, true)
	if err != nil {
		return nil, err
	}
	defer c.close()
	c.indexNew(ctx, a)
	return c.snapshotHandle(ctx, a)
}

// snapshotHandle is what the index knows of a snapshot or, if it is not recorded, what it
// would.
func (c *catalog) snapshotHandle(ctx context.Context, a *snapshot.Artefact) (*SnapshotHandle, error) {
	row, err := c.store.Snapshot(ctx, a.Digest)
	if errors.Is(err, store.ErrNotFound) || err == nil && row.Path != a.Path {
		row, err = snapshotRow(c.home.snapshots(), a), nil
	}
	return &SnapshotHandle{c.home, row}, wrap(ErrInternal, err)
}

// List returns the snapshots in the index, newest first. One whose directory is gone has
// another availability than ready.
func (snapshotFactory) List(ctx context.Context) ([]*SnapshotHandle, error) {
	c, err := openOwnCatalog(ctx, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.close()
	rows, err := c.store.Snapshots(ctx)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	all := make([]*SnapshotHandle, 0, len(rows))
	for _, row := range rows {
		if _, err := os.Lstat(row.Path); errors.Is(err, fs.ErrNotExist) {
			row.Availability = availabilityMissing
		}
		all = append(all, &SnapshotHandle{c.home, row})
	}
	return all, nil
}

// ListDir opens every snapshot in a directory, in the order of names, and passes over
// everything else there.
func (snapshotFactory) ListDir(_ context.Context, dir string) ([]*SnapshotArtifact, error) {
	found, err := snapshot.List(dir, nil)
	if err != nil {
		return nil, snapshotError(err)
	}
	all := make([]*SnapshotArtifact, 0, len(found))
	for _, a := range found {
		all = append(all, &SnapshotArtifact{a})
	}
	return all, nil
}

// Remove deletes a snapshot, also a damaged one. One that others are made from is removed
// only by force; they stay whole.
func (snapshotFactory) Remove(ctx context.Context, name string, force bool) error {
	h, err := openHome()
	if err != nil {
		return err
	}
	path, err := h.locateSnapshot(ctx, name)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return wrap(ErrIO, err)
	}
	forgotten, err := h.forget(ctx, path, force)
	if err != nil {
		return err
	}
	err = snapshot.Remove(ctx, path)
	if forgotten && errors.Is(err, snapshot.ErrNotFound) {
		if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
			return nil // only the index knew it
		}
	}
	return snapshotError(err)
}

// forget takes the snapshot at a path out of the index.
func (h home) forget(ctx context.Context, path string, force bool) (was bool, err error) {
	c, err := openCatalog(ctx, h, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer c.close()
	rows, err := c.store.Snapshots(ctx)
	if err != nil {
		return false, wrap(ErrInternal, err)
	}
	for _, row := range rows {
		if row.Path != path {
			continue
		}
		if row.Children > 0 && !force {
			return false, fail(ErrInvalidArgument, "snapshot %s has %d indexed child snapshot(s); pass --force to remove anyway", row.Digest, row.Children)
		}
		if err := c.store.RemoveSnapshot(ctx, row.Digest); err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, wrap(ErrInternal, err)
		}
		was = true
	}
	return was, nil
}

// Reindex makes the index say what is in a directory, the folder of snapshots if dir is
// empty, and returns how many snapshots are there.
func (snapshotFactory) Reindex(ctx context.Context, dir string) (uint32, error) {
	h, err := openHome()
	if err != nil {
		return 0, err
	}
	own := h.snapshots()
	if dir, err = filepath.Abs(orDefault(dir, own)); err != nil {
		return 0, wrap(ErrIO, err)
	}
	found, err := snapshot.List(dir, nil)
	if err != nil {
		return 0, snapshotError(err)
	}
	c, err := openCatalog(ctx, h, true)
	if err != nil {
		return 0, err
	}
	defer c.close()
	rows, err := c.store.Snapshots(ctx)
	if err != nil {
		return 0, wrap(ErrInternal, err)
	}
	for _, row := range rows {
		if _, err := os.Lstat(row.Path); filepath.Dir(row.Path) == dir && errors.Is(err, fs.ErrNotExist) {
			if err := c.store.RemoveSnapshot(ctx, row.Digest); err != nil && !errors.Is(err, store.ErrNotFound) {
				return 0, wrap(ErrInternal, err)
			}
		}
	}
	for _, a := range found {
		if err := c.record(ctx, own, a); err != nil {
			return 0, err
		}
	}
	return count(found), wrap(ErrInternal, c.store.RecountSnapshots(ctx))
}

// index records a snapshot. The index is a cache: what is missing in it is found again,
// so an error is none.
func (c *catalog) index(ctx context.Context, a *snapshot.Artefact) {
	_ = c.record(ctx, c.home.snapshots(), a)
}

// record is index with its error; dir is the folder of snapshots. The index has one place
// for each identity, which belongs to the snapshot that has a name.
func (c *catalog) record(ctx context.Context, dir string, a *snapshot.Artefact) error {
	if filepath.Dir(a.Path) != dir {
		row, err := c.store.Snapshot(ctx, a.Digest)
		if err == nil && filepath.Dir(row.Path) == dir {
			if _, err := os.Lstat(row.Path); err == nil {
				return nil
			}
		}
	}
	return wrap(ErrInternal, c.store.SaveSnapshot(ctx, snapshotRow(dir, a)))
}

// indexFolder is indexNew for the folder of snapshots.
func (c *catalog) indexFolder(ctx context.Context) {
	all, _ := snapshot.List(c.home.snapshots(), nil) // as far as they can be read
	for _, a := range all {
		c.indexNew(ctx, a)
	}
}

// indexNew is index unless the snapshot is recorded as it is.
func (c *catalog) indexNew(ctx context.Context, a *snapshot.Artefact) {
	if row, err := c.store.Snapshot(ctx, a.Digest); err != nil || row.Path != a.Path {
		c.index(ctx, a)
	}
}

// snapshotRow is the index's form of a snapshot; dir is the folder of those with names.
func snapshotRow(dir string, a *snapshot.Artefact) store.Snapshot {
	d := a.Descriptor
	row := store.Snapshot{Digest: a.Digest, ParentDigest: d.Parent, ImageRef: d.ImageRef, ImageManifestDigest: d.ImageManifestDigest,
		Format: d.Format, Fstype: d.Fstype, Path: a.Path, SizeBytes: &d.Upper.SizeBytes, CreatedAt: d.CreatedAt,
		Scope: SnapshotScopeDisk, StateKind: "file", Locality: "embedded", Availability: "ready", MigrationState: "canonical"}
	if filepath.Dir(a.Path) == dir {
		row.Name = filepath.Base(a.Path)
	}
	return row
}
