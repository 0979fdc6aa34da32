package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/oci"
)

// Pruned counts what Prune removed.
type Pruned struct {
	References, Fsmeta, VMDK, Layers int
	Bytes                            int64 // on disk
}

// Prune removes every image but those whose manifests keep names: references, files, and
// layers that no image has any more; also what interrupted work left long ago. What
// another process works on at the moment stays.
func (c *Cache) Prune(ctx context.Context, keep map[digest.Digest]bool) (Pruned, error) {
	var p Pruned
	if err := c.pruneReferences(ctx, keep, &p); err != nil {
		return p, err
	}
	if err := c.pruneDisks(ctx, keep, &p); err != nil {
		return p, err
	}
	names, err := c.names(layersDir, imageSuffix)
	if err != nil {
		return p, err
	}
	dropped, err := c.dropLayers(names)
	p.Layers = len(dropped)
	p.count(dropped)
	_, bytes := c.sweep(time.Now())
	p.Bytes += bytes
	return p, err
}

func (p *Pruned) count(files []freed) {
	for _, f := range files {
		p.Bytes += f.bytes
	}
}

// names lists the files of a folder that have a suffix, without it.
func (c *Cache) names(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.dir, dir))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// pruneReferences removes the documents of images that are not kept, and those that
// nobody can read.
func (c *Cache) pruneReferences(ctx context.Context, keep map[digest.Digest]bool, p *Pruned) error {
	keys, err := c.names(manifestsDir, documentSuffix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := ifFree(filepath.Join(c.dir, manifestsDir, key+lockSuffix), func() error {
			path := filepath.Join(c.dir, manifestsDir, key+documentSuffix)
			m, _, err := readMetadata(path)
			switch {
			case err == nil && keep[m.ManifestDigest], errors.Is(err, oci.ErrNotFound):
				return nil
			case err != nil && !errors.Is(err, oci.ErrManifest):
				return err
			}
			gone, err := remove(path)
			p.References += len(gone)
			p.count(gone)
			return err
		})
		if err != nil {
			return err
		}
	}
	return syncDir(filepath.Join(c.dir, manifestsDir))
}

// pruneDisks removes fsmeta images and descriptors that neither are kept nor belong to a
// reference.
func (c *Cache) pruneDisks(ctx context.Context, keep map[digest.Digest]bool, p *Pruned) error {
	used := map[string]bool{}
	for manifest := range keep {
		used[safe(manifest)] = true
	}
	if err := c.documents("", func(m metadata, _ time.Time) { used[safe(m.ManifestDigest)] = true }); err != nil {
		return err
	}
	images, err := c.names(fsmetaDir, imageSuffix)
	if err != nil {
		return err
	}
	disks, err := c.names(vmdkDir, vmdkSuffix)
	if err != nil {
		return err
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(append(images, disks...)))) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if used[name] {
			continue
		}
		meta := filepath.Join(c.dir, fsmetaDir, name+imageSuffix)
		err := ifFree(meta+lockSuffix, func() error {
			gone, err := remove(meta)
			p.Fsmeta += len(gone)
			p.count(gone)
			if err != nil {
				return err
			}
			gone, err = remove(filepath.Join(c.dir, vmdkDir, name+vmdkSuffix))
			p.VMDK += len(gone)
			p.count(gone)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ifFree calls f under a lock unless somebody else holds it.
func ifFree(path string, f func() error) error {
	l, err := openLock(path)
	if err != nil {
		return err
	}
	defer l.release()
	if taken, err := l.try(unix.LOCK_EX); err != nil || !taken {
		return err
	}
	return f()
}
