package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/oci/ref"
)

// Remove forgets a reference and, if no other reference stands for the same image, its
// files and those of the layers that no other image has; a running microVM keeps those
// it has open. It returns the manifest digest and whether the image itself is gone. An
// unknown reference is oci.ErrNotFound.
func (c *Cache) Remove(ctx context.Context, reference string) (manifest digest.Digest, last bool, err error) {
	r, err := ref.Parse(reference)
	if err != nil {
		return "", false, err
	}
	held, err := acquire(ctx, c.referenceLock(r))
	if err != nil {
		return "", false, err
	}
	defer held.release()
	m, _, err := readMetadata(c.metadataPath(r))
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", r.Familiar(), err)
	}
	if err := os.Remove(c.metadataPath(r)); err != nil {
		return "", false, err
	}
	if err := syncDir(filepath.Join(c.dir, manifestsDir)); err != nil {
		return m.ManifestDigest, false, err
	}
	last = true
	if err := c.documents(m.ManifestDigest, func(metadata, time.Time) { last = false }); err != nil || !last {
		return m.ManifestDigest, false, err
	}
	return m.ManifestDigest, true, c.drop(ctx, m.ManifestDigest, m.layerNames())
}

// drop removes the files of an image that no reference stands for.
func (c *Cache) drop(ctx context.Context, manifest digest.Digest, layers []string) error {
	held, err := acquire(ctx, c.fsmetaLock(manifest))
	if err != nil {
		return err
	}
	defer held.release()
	for _, path := range []string{c.vmdkPath(manifest), c.fsmetaPath(manifest)} {
		if _, err := remove(path); err != nil {
			return err
		}
	}
	_, err = c.dropLayers(layers)
	return err
}

// dropLayers removes layer images, but those that an image has and those that someone is
// about to give to one: who does holds their locks until the image is complete. It
// returns what it removed.
func (c *Cache) dropLayers(names []string) (dropped []freed, err error) {
	var free []string
	for _, name := range names {
		l, err := openLock(c.layerFile(name) + lockSuffix)
		if err != nil {
			return nil, err
		}
		defer l.release()
		if taken, err := l.try(unix.LOCK_EX); err != nil {
			return nil, err
		} else if taken {
			free = append(free, name)
		}
	}
	used, err := c.usedLayers()
	if err != nil {
		return nil, err
	}
	for _, name := range free {
		if used[name] {
			continue
		}
		f, err := remove(c.layerFile(name))
		if err != nil {
			return dropped, err
		}
		dropped = append(dropped, f...)
	}
	return dropped, nil
}

// usedLayers returns the names of the layers that images have: those of documents, and
// those of disks that outlive their references because a sandbox has them.
func (c *Cache) usedLayers() (map[string]bool, error) {
	used := map[string]bool{}
	err := c.documents("", func(m metadata, _ time.Time) {
		for _, name := range m.layerNames() {
			used[name] = true
		}
	})
	if err != nil {
		return nil, err
	}
	return used, c.disks(func(_ digest.Digest, names []string) error {
		for _, name := range names {
			used[name] = true
		}
		return nil
	})
}

// freed is a file that was removed.
type freed struct {
	path  string
	bytes int64 // that it took on disk
}

// remove removes a file if it is there.
func remove(path string) ([]freed, error) {
	info, err := os.Lstat(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []freed{{path, allocated(info)}}, nil
}
