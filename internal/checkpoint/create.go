package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/internal/staging"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// stagingSuffix ends the names of directories in which checkpoints are made.
const stagingSuffix = ".saved"

// Draft is a checkpoint in the making. It ends in one call of Publish or Discard.
type Draft struct {
	dir      string
	lifetime format.Lifetime
	place    *staging.Dir
	disks    []Disk
}

// Create begins a checkpoint that is to be at dir, which must not be there; the directory of
// dir is made if missing. What a dead process left of an attempt at the same name is removed.
// One that does not last is not durable, and its disks have no checksums.
func Create(dir string, lifetime format.Lifetime) (_ *Draft, err error) {
	defer wrap(&err, "make", dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := free(dir); err != nil {
		return nil, err
	}
	place, err := staging.Make(dir, stagingSuffix, ours)
	if err != nil {
		return nil, err
	}
	d := &Draft{dir: dir, lifetime: lifetime, place: place}
	if err := os.Mkdir(filepath.Join(place.Path, disksName), 0o700); err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d, nil
}

// free reports whether nothing is at dir.
func free(dir string) error {
	switch _, err := os.Lstat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return ErrExists
}

// ours reports that a directory holds nothing but parts of a checkpoint.
func ours(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		// What is about to become a part has a dot before its name, and more after it.
		name, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "."), ".")
		return !slices.Contains([]string{machineName, "manifest", disksName}, name)
	})
}

// MachineDir is where the machine is to be saved, by package snapshot/format.
func (d *Draft) MachineDir() string { return MachineDir(d.place.Path) }

// Lifetime is how long the checkpoint is to last, that of the machine too.
func (d *Draft) Lifetime() format.Lifetime { return d.lifetime }

// CopyDisk copies the disk at path, holes included, sharing its blocks where the file system
// can. Nothing may write to it meanwhile. Of disk, Index, Format and Own are given; disks
// come in ascending order.
func (d *Draft) CopyDisk(ctx context.Context, disk Disk, path string) (err error) {
	defer wrap(&err, "copy disk "+path+" into", d.dir)
	disk.File = fileOf(disk.Index)
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(disk.Path(d.place.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = sparse.Copy(ctx, to, from)
	info, statErr := to.Stat()
	if err = errors.Join(err, statErr, to.Close()); err != nil {
		return err
	}
	disk.Size = info.Size()
	d.disks = append(d.disks, disk)
	return nil
}

// Publish completes the checkpoint with its manifest, whose Disks are those that were
// copied, makes it durable, if it is to last, and gives it its name. If it fails, or ctx ends
// before, the draft is removed. What has the name by then is [ErrExists].
func (d *Draft) Publish(ctx context.Context, m Manifest) (err error) {
	defer wrap(&err, "publish", d.dir)
	defer func() { err = errors.Join(err, d.Discard()) }() // by then there is nothing
	write, move := os.WriteFile, atomicfile.Move
	if d.lifetime == format.Lasting {
		write, move = atomicfile.Write, atomicfile.Rename
		if err := d.sealDisks(ctx); err != nil {
			return err
		}
	}
	m.Disks, m.Created = d.disks, m.Created.Round(0).UTC()
	b, err := m.encode()
	if err != nil {
		return err
	}
	if err := write(filepath.Join(d.place.Path, manifestName), b, 0o600); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = move(d.place.Path, d.dir, false)
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
}

// sealDisks computes the checksums of all disks' copies and makes them durable.
func (d *Draft) sealDisks(ctx context.Context) error {
	for i := range d.disks {
		if err := d.seal(ctx, &d.disks[i]); err != nil {
			return err
		}
	}
	return sparse.SyncDir(filepath.Join(d.place.Path, disksName))
}

// seal computes the checksum of a disk's copy and makes it durable.
func (d *Draft) seal(ctx context.Context, disk *Disk) error {
	f, err := os.OpenFile(disk.Path(d.place.Path), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if disk.Sum, err = sumOf(ctx, f, disk.Size); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Discard removes the draft.
func (d *Draft) Discard() error { return d.place.Remove() }

// Written is how much the draft takes on disk by now, in bytes; what is shared with other
// files counts, too.
func (d *Draft) Written() (n int64, err error) {
	err = filepath.WalkDir(d.place.Path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: %w", e.Name(), errors.ErrUnsupported)
		}
		n += st.Blocks * 512
		return nil
	})
	return n, err
}
