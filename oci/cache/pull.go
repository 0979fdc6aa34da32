package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
)

// Remote is a registry as a pull needs it; registry.Client is one.
type Remote interface {
	// Resolve returns the image for a platform that a reference stands for.
	Resolve(ctx context.Context, r ref.Reference, platform manifest.Platform) (*manifest.Image, error)
	// Blob returns a layer's blob from an offset on, as long as ctx lasts.
	Blob(ctx context.Context, r ref.Reference, l oci.Layer, offset int64) io.ReadCloser
}

// Policy says when a pull asks the registry.
type Policy int

// The policies.
const (
	IfMissing Policy = iota // only if the image is not complete in the cache
	Always                  // for documents; layers that are there are not fetched again
	Never                   // oci.ErrNotCached instead
)

// PullOptions are the options of Pull.
type PullOptions struct {
	Policy   Policy
	Force    bool            // fetch and convert everything anew
	Progress func(oci.Event) // called one at a time; may be nil
}

// Pull makes sure that the cache has the image that a reference stands for, ready to
// boot. Transfers go on where an earlier one ended, even that of a killed process.
// Every blob is verified against its digests before anything of it becomes visible; what
// is complete when an error ends the pull is not fetched again. Errors wrap a class of
// package oci or are those of the disk or ctx.
func (c *Cache) Pull(ctx context.Context, reference string, remote Remote, opts PullOptions) (*oci.Image, error) {
	r, err := ref.Parse(reference)
	if err != nil {
		return nil, err
	}
	report := oneAtATime(opts.Progress)
	p := &puller{Cache: c, reference: r, remote: remote, force: opts.Force, report: report}
	report(oci.Event{Kind: oci.EventResolving, Reference: r.String()})
	if opts.Policy != Always && !opts.Force {
		if i, err := p.cached(ctx); err == nil || !errors.Is(err, oci.ErrNotFound) {
			return i, err
		}
	}
	if opts.Policy == Never {
		return nil, fmt.Errorf("%w: %s", oci.ErrNotCached, r)
	}
	c.sweep(time.Now())
	held, err := acquire(ctx, c.referenceLock(r))
	if err != nil {
		return nil, err
	}
	defer held.release()
	if opts.Policy != Always && !opts.Force { // another process may have been faster
		if i, err := p.cached(ctx); err == nil || !errors.Is(err, oci.ErrNotFound) {
			return i, err
		}
	}
	return p.pull(ctx)
}

// puller pulls one image.
type puller struct {
	*Cache
	reference ref.Reference
	remote    Remote
	force     bool
	report    func(oci.Event)
}

// cached returns the image if it is complete: as the reference's own or, if that names a
// manifest by its digest, as that of any reference.
func (p *puller) cached(ctx context.Context) (*oci.Image, error) {
	i, err := p.Image(ctx, p.reference.Given())
	if errors.Is(err, oci.ErrNotFound) && p.reference.Digest() != "" {
		i, err = p.byDigest(ctx)
	}
	if err != nil {
		return nil, err
	}
	about := oci.Event{Kind: oci.EventResolved, Reference: i.Reference, ManifestDigest: i.ManifestDigest, Layers: len(i.Layers), Total: i.TotalSize()}
	p.report(about)
	about.Kind, about.Total = oci.EventComplete, 0
	p.report(about)
	return i, nil
}

// byDigest gives the reference the image that another reference has.
func (p *puller) byDigest(ctx context.Context) (*oci.Image, error) {
	var found *metadata
	err := p.documents(p.reference.Digest(), func(m metadata, _ time.Time) { found = &m })
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, oci.ErrNotFound
	}
	d, err := p.openDisk(found.ManifestDigest, found.layerNames())
	if err != nil {
		return nil, err
	}
	if _, err := d.compose(ctx); err != nil {
		return nil, err
	}
	if err := p.writeDocument(p.reference, *found); err != nil {
		return nil, err
	}
	return p.Image(ctx, p.reference.Given())
}

// pull fetches the image; the caller holds the reference's lock.
func (p *puller) pull(ctx context.Context) (*oci.Image, error) {
	image, err := p.remote.Resolve(ctx, p.reference, p.Platform)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.reference.Familiar(), err)
	}
	// Layers are asked for by digest; the tag does not matter any more.
	o := &remoteOrigin{Cache: p.Cache, documents: image, reference: p.reference, remote: p.remote, report: p.report, resumed: make([]bool, len(image.Layers))}
	stored, err := p.storeLocked(ctx, o, []ref.Reference{p.reference}, storeOptions{report: p.report, force: p.force})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.reference.Familiar(), err)
	}
	return stored[0], nil
}
