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
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/patch"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// upperName is the file of a managed root disk in the sandbox's directory.
const upperName = "upper.ext4"

// A new sandbox's directory is made under a name that no sandbox can have and moved to
// its place at once, so that none is ever half there. What a killed process left is
// cleared away by whoever makes the next one.
const (
	nurseryPrefix = ".new-"
	nurseryLife   = time.Hour // no process works on one for that long
)

// provision makes the directory of a new sandbox, with its root disk, and returns where
// it is.
func (b *boot) provision(ctx context.Context) (dir string, err error) {
	parent := b.home.sandboxes()
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", wrap(ErrIO, err)
	}
	clearNurseries(parent)
	if dir, err = os.MkdirTemp(parent, nurseryPrefix); err != nil {
		return "", wrap(ErrIO, err)
	}
	if err := b.provisionRoot(ctx, dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

func clearNurseries(parent string) {
	entries, _ := os.ReadDir(parent) // nothing to clear
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), nurseryPrefix) && time.Since(info.ModTime()) > nurseryLife {
			_ = os.RemoveAll(filepath.Join(parent, e.Name())) // the next one tries again
		}
	}
}

// provisionRoot makes the root disk of a new sandbox in dir.
func (b *boot) provisionRoot(ctx context.Context, dir string) error {
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
