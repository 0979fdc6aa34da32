package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/integrity"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// PayloadName is the name of the payload in artefacts that this package makes.
const PayloadName = "upper.ext4"

// Config says what to make a snapshot of, and where.
type Config struct {
	Dir   string // holds snapshots; made if missing
	Name  string // of the snapshot in Dir
	Upper string // raw ext4 disk that nothing writes to
	// Fill, unless nil, makes the payload itself instead of copying Upper, and perhaps a
	// checkpoint: PayloadName and CheckpointName in dir, synced. What it returns is added to
	// Extensions.
	Fill                func(ctx context.Context, dir string) (extensions map[string]any, err error)
	ImageRef            string
	ImageManifestDigest string // "sha256:" and 64 hex digits
	SourceSandbox       string // may be empty
	Parent              string // identity of the parent snapshot; may be empty
	Labels              map[string]string
	Extensions          map[string]any // of the descriptor; nil for none
	CreatedAt           time.Time
	Integrity           bool // hash the payload into the descriptor
	Force               bool // replace what has the name
}

// Validate checks what can be checked before the disk is read.
func (c Config) Validate() error {
	if err := ValidateName(c.Name); err != nil {
		return err
	}
	return c.descriptor(0).Validate()
}

func (c Config) descriptor(size int64) *descriptor.Descriptor {
	return &descriptor.Descriptor{
		CreatedAt: c.CreatedAt, Parent: c.Parent, ImageRef: c.ImageRef, ImageManifestDigest: c.ImageManifestDigest,
		SourceSandbox: c.SourceSandbox, Format: "raw", Fstype: "ext4", Labels: c.Labels, Extensions: c.Extensions,
		Upper: descriptor.Upper{File: PayloadName, SizeBytes: size},
	}
}

// Create makes a snapshot. Killed at any point, it leaves the name as it was, and what it
// staged is removed by whoever changes the directory next.
func Create(ctx context.Context, c Config) (*Artefact, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, c.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	dst, staging := filepath.Join(c.Dir, c.Name), stagingPath(c.Dir, c.Name)
	if _, err := os.Lstat(dst); err == nil && !c.Force {
		return nil, fmt.Errorf("%w: %s", ErrExists, dst)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := errors.Join(sweep(c.Dir), os.RemoveAll(staging)); err != nil {
		return nil, err
	}
	err = c.stage(ctx, staging)
	if err == nil {
		err = publish(staging, dst, c.Force)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(staging))
	}
	if err := os.RemoveAll(staging); err != nil { // what was replaced
		return nil, err
	}
	return Open(dst)
}

// stage writes the whole artefact, synced, descriptor last.
func (c Config) stage(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	payload := filepath.Join(dir, PayloadName)
	if err := c.fill(ctx, dir); err != nil {
		return err
	}
	info, err := os.Lstat(payload)
	if err != nil {
		return err
	}
	d := c.descriptor(info.Size())
	if c.Integrity {
		if d.Upper.Integrity, err = integrity.Compute(ctx, payload); err != nil {
			return err
		}
	}
	b, err := d.Encode()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, descriptor.FileName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return sparse.SyncDir(dir)
}

// fill makes everything in dir but the descriptor.
func (c *Config) fill(ctx context.Context, dir string) error {
	if c.Fill == nil {
		return sparse.CopyFile(ctx, filepath.Join(dir, PayloadName), c.Upper, 0o600)
	}
	more, err := c.Fill(ctx, dir)
	if err != nil {
		return err
	}
	c.Extensions = maps.Clone(c.Extensions)
	if c.Extensions == nil {
		c.Extensions = map[string]any{}
	}
	maps.Copy(c.Extensions, more)
	return nil
}

const stagingSuffix = ".staging"

// stagingPath is beside the artefact, where lists do not look.
func stagingPath(dir, name string) string { return filepath.Join(dir, "."+name+stagingSuffix) }

// isStagingName reports that stagingPath makes such a name.
func isStagingName(base string) bool {
	name, is := strings.CutSuffix(base, stagingSuffix)
	name, dotted := strings.CutPrefix(name, ".")
	return is && dotted && ValidateName(name) == nil
}
