package cache

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/ref"
)

type storeOptions struct {
	report func(oci.Event) // may be called from several goroutines
	force  bool            // make images of layers anew
}

// oneAtATime lets events out one after another; report may be nil.
func oneAtATime(report func(oci.Event)) func(oci.Event) {
	if report == nil {
		return func(oci.Event) {}
	}
	var mu sync.Mutex
	return func(e oci.Event) {
		mu.Lock()
		defer mu.Unlock()
		report(e)
	}
}

// store makes the files of one image, unless they exist, and records its references.
// Locks are taken in the order references, layers, fsmeta.
func (c *Cache) store(ctx context.Context, from origin, refs []ref.Reference, opts storeOptions) ([]*oci.Image, error) {
	paths := make([]string, 0, len(refs))
	for _, r := range refs {
		paths = append(paths, c.referenceLock(r))
	}
	release, err := acquireAll(ctx, paths)
	if err != nil {
		return nil, err
	}
	defer release()
	return c.storeLocked(ctx, from, refs, opts)
}

// storeLocked is store for a caller that holds the locks of the references.
func (c *Cache) storeLocked(ctx context.Context, from origin, refs []ref.Reference, opts storeOptions) ([]*oci.Image, error) {
	image := from.image()
	about := oci.Event{Kind: oci.EventResolved, Reference: refs[0].String(), ManifestDigest: image.ManifestDigest, Layers: len(image.Layers)}
	for _, l := range image.Layers {
		about.Total += l.Size
	}
	opts.report(about)
	layers, release, err := c.layers(ctx, from, opts)
	if err != nil {
		return nil, err
	}
	defer release()
	d := &disk{Cache: c, manifest: image.ManifestDigest, layers: layers, report: opts.report}
	size, err := d.compose(ctx)
	if err != nil {
		return nil, err
	}
	stored := make([]*oci.Image, 0, len(refs))
	for _, r := range refs {
		m := newMetadata(r, image)
		if err := c.writeDocument(r, m); err != nil {
			return nil, err
		}
		done, err := c.image(m, time.Now())
		if err != nil {
			return nil, err
		}
		done.Name, done.DiskSize = r.Given(), size
		stored = append(stored, done)
	}
	about.Kind, about.Total = oci.EventComplete, 0
	opts.report(about)
	return stored, nil
}

// layers makes sure that the images of all layers are there, several at a time, and
// keeps them from being removed until they are released. A layer that occurs twice has
// one image.
func (c *Cache) layers(ctx context.Context, from origin, opts storeOptions) (all []*layerImage, release func(), err error) {
	b := &builder{Cache: c, origin: from, force: opts.force, report: opts.report}
	wanted := from.image().Layers
	all = make([]*layerImage, len(wanted))
	release = func() {
		for _, l := range all {
			if l != nil {
				l.lock.release()
			}
		}
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(parallel())
	first := map[digest.Digest]int{}
	for i, l := range wanted {
		if _, twice := first[l.DiffID]; twice {
			continue
		}
		first[l.DiffID] = i
		group.Go(func() error {
			made, err := b.layer(inner, i)
			if err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(wanted), l.BlobDigest, err)
			}
			all[i] = made
			return nil
		})
	}
	err = group.Wait()
	if err == nil && b.built.Load() {
		err = c.refit(ctx, from.image().ManifestDigest, wanted)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	for i, l := range wanted {
		all[i] = all[first[l.DiffID]]
	}
	return all, release, nil
}

// parallel is how many layers are read at a time.
func parallel() int { return min(max(2*runtime.NumCPU(), 4), 16) }

// refit makes the fsmeta images of other disks anew that have one of these layers but
// were made for another layout of it. That happens where a layer was damaged or is made
// anew, and the one before was laid out by microsandbox 0.6.18, which would go on to use
// its fsmeta image.
func (c *Cache) refit(ctx context.Context, except digest.Digest, layers []oci.Layer) error {
	return c.disks(func(manifest digest.Digest, names []string) error {
		if manifest == except || !slices.ContainsFunc(layers, func(l oci.Layer) bool { return slices.Contains(names, safe(l.DiffID)) }) {
			return nil
		}
		d, err := c.openDisk(manifest, names)
		if err != nil {
			return nil // it lacks another layer and cannot be used by anybody
		}
		_, err = d.compose(ctx)
		return err
	})
}
