package cache

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/ref"
)

// LoadOptions are the options of Load.
type LoadOptions struct {
	Tags     []string        // further references of the first image
	Progress func(oci.Event) // called in order, from one goroutine; may be nil
}

// Load stores the images of an archive (docker save or OCI layout, plain or compressed
// by gzip or zstd) under the references it names and returns one value for each
// reference, in order. A regular *os.File is read in place from its start, any other
// reader to its end. Images already stored are not converted again.
//
// Every blob is verified against its digests before anything of it becomes visible.
// After an error the images before the failing one remain stored. Errors wrap a class
// of package oci or are those of the reader, the disk or ctx.
func (c *Cache) Load(ctx context.Context, r io.Reader, opts LoadOptions) ([]*oci.Image, error) {
	tags, err := parseAll(opts.Tags)
	if err != nil {
		return nil, err
	}
	c.sweep(time.Now())
	file, err := archive.Stage(ctx, c.tmp(), r, c.Limits.Archive.Outer)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	images, err := archive.Read(ctx, file, c.Platform, c.Limits.Archive)
	if err != nil {
		return nil, err
	}
	names, err := nameImages(images, tags)
	if err != nil {
		return nil, err
	}
	report := opts.Progress
	if report == nil {
		report = func(oci.Event) {}
	}
	var stored []*oci.Image
	for i, image := range images {
		done, err := c.store(ctx, fromArchive(image), names[i], report)
		if err != nil {
			return stored, fmt.Errorf("%s: %w", names[i][0].Familiar(), err)
		}
		stored = append(stored, done...)
	}
	return stored, nil
}

func parseAll(names []string) ([]ref.Reference, error) {
	refs := make([]ref.Reference, 0, len(names))
	for _, name := range names {
		r, err := ref.Parse(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, r)
	}
	return refs, nil
}

// nameImages decides the references of each image before anything is stored.
func nameImages(images []archive.Image, tags []ref.Reference) ([][]ref.Reference, error) {
	all := make([][]ref.Reference, len(images))
	owner := map[string]int{}
	for i, image := range images {
		refs, err := parseAll(image.Names)
		if err != nil {
			return nil, fmt.Errorf("name in the archive: %w", err)
		}
		if i == 0 {
			refs = append(refs, tags...)
		}
		for _, r := range refs {
			if d := r.Digest(); d != "" && d != image.ManifestDigest {
				return nil, fmt.Errorf("%w: %s names an image that is %s", oci.ErrDigestMismatch, r.Familiar(), image.ManifestDigest)
			}
			if other, taken := owner[r.String()]; taken && other != i {
				return nil, fmt.Errorf("%w: two images are called %s", oci.ErrArchive, r.Familiar())
			} else if taken {
				continue
			}
			owner[r.String()] = i
			all[i] = append(all[i], r)
		}
		if len(all[i]) == 0 {
			return nil, fmt.Errorf("%w: image %d of the archive (%s); give it one with --tag", oci.ErrUntagged, i+1, image.ConfigDigest)
		}
	}
	return all, nil
}

// store makes the files of one image, unless they exist, and records its references.
// Locks are taken in the order references, layers, fsmeta.
func (c *Cache) store(ctx context.Context, image origin, refs []ref.Reference, report func(oci.Event)) ([]*oci.Image, error) {
	paths := make([]string, 0, len(refs))
	for _, r := range refs {
		paths = append(paths, c.referenceLock(r))
	}
	release, err := acquireAll(ctx, paths)
	if err != nil {
		return nil, err
	}
	defer release()

	about := oci.Event{Reference: refs[0].String(), ManifestDigest: image.ManifestDigest, Layers: len(image.Layers)}
	about.Kind = oci.EventResolved
	for _, l := range image.Layers {
		about.Total += l.Size
	}
	report(about)
	layers, release, err := c.layers(ctx, image, report)
	if err != nil {
		return nil, err
	}
	defer release()
	d := &disk{Cache: c, manifest: image.ManifestDigest, layers: layers, report: report}
	size, err := d.compose(ctx)
	if err != nil {
		return nil, err
	}
	stored := make([]*oci.Image, 0, len(refs))
	for _, r := range refs {
		if err := c.writeMetadata(r, image); err != nil {
			return nil, err
		}
		done, err := c.image(newMetadata(r, image), time.Now())
		if err != nil {
			return nil, err
		}
		done.DiskSize = size
		stored = append(stored, done)
	}
	about.Kind, about.Total = oci.EventComplete, 0
	report(about)
	return stored, nil
}

// layers makes sure that the images of all layers are there, several at a time, and
// keeps them from being removed until they are released. A layer that occurs twice has
// one image.
func (c *Cache) layers(ctx context.Context, image origin, report func(oci.Event)) (all []*layerImage, release func(), err error) {
	var mu sync.Mutex // lets one event out at a time
	b := &builder{Cache: c, origin: image, report: func(e oci.Event) {
		mu.Lock()
		defer mu.Unlock()
		report(e)
	}}
	all = make([]*layerImage, len(image.Layers))
	release = func() {
		for _, l := range all {
			if l != nil {
				l.lock.release()
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel())
	first := map[digest.Digest]int{}
	for i, l := range image.Layers {
		if _, twice := first[l.DiffID]; twice {
			continue
		}
		first[l.DiffID] = i
		group.Go(func() error {
			made, err := b.layer(ctx, i)
			if err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(image.Layers), l.BlobDigest, err)
			}
			all[i] = made
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		release()
		return nil, nil, err
	}
	for i, l := range image.Layers {
		all[i] = all[first[l.DiffID]]
	}
	return all, release, nil
}

// parallel is how many layers are read at a time.
func parallel() int { return min(max(2*runtime.NumCPU(), 4), 16) }
