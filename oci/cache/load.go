package cache

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/ref"
)

// LoadOptions are the options of Load.
type LoadOptions struct {
	Tags     []string        // further references of the first image
	Progress func(oci.Event) // called one at a time; may be nil
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
	report := oneAtATime(opts.Progress)
	var stored []*oci.Image
	for i, image := range images {
		done, err := c.store(ctx, &archived{image}, names[i], storeOptions{report: report})
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
			}
			owner[r.String()] = i
			if !slices.ContainsFunc(all[i], func(other ref.Reference) bool { return other.Given() == r.Given() }) {
				all[i] = append(all[i], r)
			}
		}
		if len(all[i]) == 0 {
			return nil, fmt.Errorf("%w: image %d of the archive (%s); give it one with --tag", oci.ErrUntagged, i+1, image.ConfigDigest)
		}
	}
	return all, nil
}
