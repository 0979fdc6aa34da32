package microsandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/internal/filelock"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/patch"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// upperName is the file of a managed root disk in the sandbox's directory.
const upperName = "upper.ext4"

// A new sandbox's directory, the nursery, is made under a name that no sandbox can have
// and moved to its place at once, so that none is ever half there. Checkpoints that copies
// are made of are in such a directory, too. Its maker has it locked;
// what a killed one left is cleared away by whoever makes the next one.
const nurseryPrefix = ".new-"

// nursery is the directory of a sandbox to be. release, once it is in its place or
// removed, unlocks it.
type nursery struct {
	path string
	file *os.File
}

func (n *nursery) release() { _ = n.file.Close() }

// newNursery makes one below parent.
func newNursery(ctx context.Context, parent string) (*nursery, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	// Under this lock nurseries are made and locked.
	all, err := os.Open(parent)
	if err != nil {
		return nil, err
	}
	defer func() { _ = all.Close() }()
	if err := filelock.Wait(ctx, all); err != nil {
		return nil, err
	}
	clearNurseries(parent)
	path, err := os.MkdirTemp(parent, nurseryPrefix)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err == nil {
		if _, err = filelock.Try(f); err == nil {
			return &nursery{path: path, file: f}, nil
		}
		err = errors.Join(err, f.Close())
	}
	return nil, errors.Join(err, os.Remove(path))
}

// sweepNurseries removes those below parent whose makers are dead, unless somebody is at it.
func sweepNurseries(parent string) {
	all, err := os.Open(parent)
	if err != nil {
		return // there are none
	}
	defer func() { _ = all.Close() }()
	if free, err := filelock.Try(all); free && err == nil {
		clearNurseries(parent)
	}
}

// clearNurseries removes those whose makers are dead, as far as that is possible.
func clearNurseries(parent string) {
	entries, _ := os.ReadDir(parent) // nothing to clear
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), nurseryPrefix) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if free, err := filelock.Try(f); free && err == nil {
			_ = os.RemoveAll(path) // the next one tries again
		}
		_ = f.Close()
	}
}

// provision makes the directory of a new sandbox, with its root disk. The caller releases
// it.
func (b *boot) provision(ctx context.Context) (*nursery, error) {
	sweepNurseries(b.home.checkpoints()) // they are large: do not wait for the next branch
	n, err := newNursery(ctx, b.home.sandboxes())
	if ctx.Err() != nil && err != nil {
		return nil, cancelled(ctx)
	}
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	if err := b.provisionRoot(ctx, n.path); err != nil {
		defer n.release()
		return nil, errors.Join(err, os.RemoveAll(n.path))
	}
	return n, nil
}

// provisionRoot makes the root disk of a new sandbox in dir.
func (b *boot) provisionRoot(ctx context.Context, dir string) error {
	if b.child != nil {
		return b.child.provision(ctx, dir)
	}
	if b.snapshot != nil {
		return copySnapshot(ctx, b.snapshot, dir)
	}
	switch {
	case b.spec.Image.OCI != nil && b.spec.Image.OCI.RootDisk.Kind == rootDiskFlat:
		return b.provisionFlat(ctx, dir)
	case b.spec.Image.OCI == nil || b.spec.Image.OCI.RootDisk.Kind != rootDiskManaged:
		return nil
	}
	size := int64(value(b.spec.Image.OCI.RootDisk.SizeMiB)) << 20
	return b.bakedUpper(ctx, func(t *tree.Tree) error {
		err := ext4.Create(filepath.Join(dir, upperName), ext4.Options{Size: size, Tree: t})
		switch {
		case errors.Is(err, ext4.ErrOptions), errors.Is(err, ext4.ErrSpace) && len(b.spec.Patches) == 0:
			return &Error{Kind: ErrInvalidConfig, Message: "root disk", Cause: err}
		case errors.Is(err, ext4.ErrSpace), errors.Is(err, ext4.ErrTree), errors.Is(err, patch.ErrSource):
			return patchFailed(err)
		}
		return wrap(ErrIO, err)
	})
}

// ownDisk is the root disk that belongs to the sandbox and lives and grows with it, empty
// if there is none.
func (s *spec) ownDisk(c *launch.Config) string {
	if s.Image.OCI == nil {
		return ""
	}
	switch s.Image.OCI.RootDisk.Kind {
	case rootDiskManaged:
		return *c.Rootfs.Upper
	case rootDiskFlat:
		return *c.Rootfs.Disk
	}
	return ""
}

// growRootDisk makes a root disk of the sandbox's own as large as it is configured by
// now. The caller holds the sandbox's lock and the disk's.
func (s *spec) growRootDisk(c *launch.Config) error {
	disk := s.ownDisk(c)
	if disk == "" || s.Image.OCI.RootDisk.SizeMiB == nil {
		return nil
	}
	size := int64(*s.Image.OCI.RootDisk.SizeMiB) << 20
	info, err := os.Stat(disk)
	if err != nil || info.Size() >= size {
		return wrap(ErrIO, err)
	}
	var full *ext4.CapacityError
	switch err := ext4.Grow(disk, size); {
	case errors.As(err, &full):
		return &Error{Kind: ErrInvalidConfig, Message: fmt.Sprintf("the root disk of sandbox %s can grow to %d MiB at most: create the sandbox again with a larger one", s.Name, full.Max>>20), Cause: err}
	case err != nil:
		return &Error{Kind: ErrIO, Message: fmt.Sprintf("grow the root disk %s to %d MiB", disk, size>>20), Cause: err}
	}
	return nil
}

// checkRootDisk reports a root disk of the sandbox's own that is gone.
func (s *spec) checkRootDisk(c *launch.Config) error {
	disk := s.ownDisk(c)
	if disk == "" {
		return nil
	}
	if _, err := os.Stat(disk); errors.Is(err, fs.ErrNotExist) {
		return fail(ErrIO, "the root disk of sandbox %s is gone: put %s back, or remove the sandbox and create it again", s.Name, disk)
	}
	return nil
}
