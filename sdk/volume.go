package microsandbox

import (
	"context"
	"errors"
	"maps"
	"os"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/volume"
)

// VolumeKind says what a named volume is.
type VolumeKind string

// Kinds of volume; the default is VolumeKindDir.
const (
	// VolumeKindDir is a directory of the host. Any number of sandboxes can have it at
	// the same time: what one writes the others see within seconds, and locks on its
	// files hold within one sandbox only, so that two must not write one database.
	VolumeKindDir VolumeKind = "dir"
	// VolumeKindDisk is an ext4 disk image. One sandbox at a time can write it; any
	// number can read it while none does.
	VolumeKindDisk VolumeKind = "disk"
)

// VolumeConfig is what the options of CreateVolume set.
type VolumeConfig struct {
	// QuotaMiB bounds the lengths of all files of a directory; 0 is no bound. It is
	// counted when a sandbox starts, and holds for what that sandbox adds.
	QuotaMiB uint32
	Kind     VolumeKind
	SizeMiB  uint32 // of a disk
	Labels   map[string]string
}

// VolumeOption changes one thing about the volume that CreateVolume makes.
type VolumeOption func(*VolumeConfig)

// WithVolumeQuota bounds what a directory volume holds, MiB; 0 is no bound.
func WithVolumeQuota(mib uint32) VolumeOption { return func(c *VolumeConfig) { c.QuotaMiB = mib } }

// WithVolumeKind chooses the kind.
func WithVolumeKind(k VolumeKind) VolumeOption { return func(c *VolumeConfig) { c.Kind = k } }

// WithVolumeSize sets the capacity of a disk volume, MiB.
func WithVolumeSize(mib uint32) VolumeOption { return func(c *VolumeConfig) { c.SizeMiB = mib } }

// WithVolumeLabels adds labels.
func WithVolumeLabels(labels map[string]string) VolumeOption {
	return func(c *VolumeConfig) {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		maps.Copy(c.Labels, labels)
	}
}

// The smallest and the largest disk that we make an ext4 file system on.
const (
	minVolumeMiB = ext4.MinSize >> 20
	maxVolumeMiB = ext4.MaxSize >> 20
)

func checkVolumeName(name string) error { return wrap(ErrInvalidConfig, volume.CheckName(name)) }

func (c VolumeConfig) validate(name string) error {
	if err := checkVolumeName(name); err != nil {
		return err
	}
	switch c.Kind {
	case VolumeKindDir:
		if c.SizeMiB != 0 {
			return fail(ErrInvalidConfig, "volume %s: a directory has no size: give it a quota, or make it a disk", name)
		}
	case VolumeKindDisk:
		switch {
		case c.QuotaMiB != 0:
			return fail(ErrInvalidConfig, "volume %s: a disk has no quota: its size bounds it", name)
		case c.SizeMiB == 0:
			return fail(ErrInvalidConfig, "volume %s: a disk needs a size", name)
		case c.SizeMiB < minVolumeMiB || c.SizeMiB > maxVolumeMiB:
			return fail(ErrInvalidConfig, "volume %s: a disk has %d to %d MiB: got %d", name, minVolumeMiB, maxVolumeMiB, c.SizeMiB)
		}
	default:
		return fail(ErrInvalidConfig, "volume %s: kind %q: use dir or disk", name, c.Kind)
	}
	return nil
}

// Volume is a named volume that this process made.
type Volume struct{ handle *VolumeHandle }

// Name is the volume's name.
func (v *Volume) Name() string { return v.handle.Name() }

// Path is the volume's directory; a disk volume has its image there, disk.raw.
func (v *Volume) Path() string { return v.handle.Path() }

// FS works on the files in Path, which of a disk volume is only its image.
func (v *Volume) FS() *VolumeFs { return v.handle.FS() }

// Remove is VolumeHandle.Remove.
func (v *Volume) Remove(ctx context.Context) error { return v.handle.Remove(ctx) }

// VolumeHandle is a named volume as the catalogue knew it when the handle was made.
type VolumeHandle struct {
	home home
	row  store.Volume
}

// Name is the volume's name.
func (h *VolumeHandle) Name() string { return h.row.Name }

// Path is the volume's directory; a disk volume has its image there, disk.raw.
func (h *VolumeHandle) Path() string { return h.home.volumes().Path(h.row.Name) }

// Kind is the volume's kind.
func (h *VolumeHandle) Kind() VolumeKind { return VolumeKind(h.row.Kind) }

// QuotaMiB bounds a directory volume, nil without a bound.
func (h *VolumeHandle) QuotaMiB() *uint32 { return h.row.QuotaMiB }

// UsedBytes is what the volume takes now: the lengths of a directory's files, added up
// for each call, or what a disk's image occupies. It is 0 if that cannot be told.
func (h *VolumeHandle) UsedBytes() uint64 {
	used, err := h.home.volumes().Used(h.row.Name, h.Kind() == VolumeKindDisk)
	if err != nil {
		return 0
	}
	return uint64(used)
}

// CapacityBytes is the size of a disk volume, nil for a directory.
func (h *VolumeHandle) CapacityBytes() *uint64 {
	if h.row.Capacity == nil {
		return nil
	}
	n := uint64(max(*h.row.Capacity, 0))
	return &n
}

// DiskFormat is the format of a disk volume's image, "raw"; nil for a directory.
func (h *VolumeHandle) DiskFormat() *string { return pointer(h.row.Format) }

// DiskFstype is the file system of a disk volume, "ext4"; nil for a directory.
func (h *VolumeHandle) DiskFstype() *string { return pointer(h.row.Fstype) }

// Labels are the volume's labels.
func (h *VolumeHandle) Labels() map[string]string { return maps.Clone(h.row.Labels) }

// CreatedAt is when the volume was made, zero if unknown.
func (h *VolumeHandle) CreatedAt() time.Time { return h.row.CreatedAt }

// IsDefault reports the default volume of a cloud account, which no local one is.
func (h *VolumeHandle) IsDefault() bool { return false }

// FS works on the files in Path, which of a disk volume is only its image.
func (h *VolumeHandle) FS() *VolumeFs { return &VolumeFs{root: h.Path()} }

// Remove deletes the volume and everything in it. One that a running sandbox mounts, or
// whose disk another program has locked, is ErrInvalidConfig.
func (h *VolumeHandle) Remove(ctx context.Context) error { return RemoveVolume(ctx, h.row.Name) }

func volumeNotFound(name string) error { return fail(ErrVolumeNotFound, "volume not found: %s", name) }

func volumeExists(name string) error {
	return fail(ErrVolumeAlreadyExists, "volume already exists: %s", name)
}

// CreateVolume makes a named volume: an empty directory, or a disk with an empty ext4
// file system.
func CreateVolume(ctx context.Context, name string, opts ...VolumeOption) (*Volume, error) {
	cfg := VolumeConfig{}
	for _, o := range opts {
		o(&cfg)
	}
	cfg.Kind = orDefault(cfg.Kind, VolumeKindDir)
	if err := cfg.validate(name); err != nil {
		return nil, err
	}
	c, err := openOwnCatalog(ctx, true)
	if err != nil {
		return nil, err
	}
	defer c.close()
	lock, err := c.lockVolume(ctx, name)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	switch _, err := c.volume(ctx, name, lock); {
	case err == nil:
		return nil, volumeExists(name)
	case !IsKind(err, ErrVolumeNotFound):
		return nil, err
	}
	row, err := c.makeVolume(ctx, lock, name, cfg)
	if err != nil {
		return nil, err
	}
	return &Volume{&VolumeHandle{c.home, row}}, nil
}

// GetVolume looks a volume up by name.
func GetVolume(ctx context.Context, name string) (*VolumeHandle, error) {
	c, err := findVolumes(ctx)
	if c == nil {
		return nil, orDefault(err, volumeNotFound(name))
	}
	defer c.close()
	row, err := c.store.Volume(ctx, name)
	if err != nil {
		return nil, volumeError(name, err)
	}
	return &VolumeHandle{c.home, row}, nil
}

// GetDefaultVolume is for cloud accounts.
func GetDefaultVolume(context.Context) (*VolumeHandle, error) {
	return nil, fail(ErrUnsupportedOperation, "only cloud accounts have a default volume: create a named one")
}

// ListVolumes returns all volumes, newest first.
func ListVolumes(ctx context.Context) ([]*VolumeHandle, error) {
	c, err := findVolumes(ctx)
	if c == nil {
		return nil, err
	}
	defer c.close()
	rows, err := c.store.Volumes(ctx)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	all := make([]*VolumeHandle, 0, len(rows))
	for _, row := range rows {
		all = append(all, &VolumeHandle{c.home, row})
	}
	return all, nil
}

// RemoveVolume removes the volume of that name; see VolumeHandle.Remove.
func RemoveVolume(ctx context.Context, name string) error {
	c, err := findVolumes(ctx)
	if c == nil {
		return orDefault(err, volumeNotFound(name))
	}
	defer c.close()
	// Look before the lock, which leaves a file: the name may be anything.
	if _, err := c.store.Volume(ctx, name); err != nil {
		return volumeError(name, err)
	}
	return c.removeVolume(ctx, name)
}

// findVolumes opens a database that need not exist; then both results are nil.
func findVolumes(ctx context.Context) (*catalog, error) {
	c, err := openOwnCatalog(ctx, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return nil, nil
	}
	return c, err
}

func volumeError(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return volumeNotFound(name)
	}
	return wrap(ErrInternal, err)
}

func (c *catalog) lockVolume(ctx context.Context, name string) (*volume.Lock, error) {
	lock, err := c.home.volumes().Lock(ctx, name)
	switch {
	case ctx.Err() != nil:
		return nil, cancelled(ctx)
	case errors.Is(err, volume.ErrName):
		return nil, wrap(ErrInvalidConfig, err)
	}
	return lock, wrap(ErrIO, err)
}

// volume returns the row of a volume whose lock is held, or ErrVolumeNotFound.
func (c *catalog) volume(ctx context.Context, name string, lock *volume.Lock) (store.Volume, error) {
	row, err := c.store.Volume(ctx, name)
	if err != nil {
		return row, volumeError(name, err)
	}
	return row, wrap(ErrIO, lock.Listed())
}

// makeVolume makes a volume that is not there: all of it or nothing.
func (c *catalog) makeVolume(ctx context.Context, lock *volume.Lock, name string, v VolumeConfig) (store.Volume, error) {
	if ctx.Err() != nil {
		return store.Volume{}, cancelled(ctx)
	}
	if err := lock.Create(v.SizeMiB); err != nil {
		kind := ErrIO
		if errors.Is(err, volume.ErrOptions) || errors.Is(err, volume.ErrForeign) {
			kind = ErrInvalidConfig
		}
		return store.Volume{}, &Error{Kind: kind, Message: "volume " + name, Cause: err}
	}
	row := store.Volume{Name: name, Kind: string(v.Kind), QuotaMiB: pointer(v.QuotaMiB), Labels: v.Labels}
	if v.Kind == VolumeKindDisk {
		capacity := int64(v.SizeMiB) << 20
		row.Capacity, row.Format, row.Fstype = &capacity, "raw", "ext4"
	}
	// Not half of it because somebody interrupts.
	row, err := c.store.InsertVolume(context.WithoutCancel(ctx), row)
	switch {
	case errors.Is(err, store.ErrExists): // by a program that knows no locks
		return row, errors.Join(volumeExists(name), lock.Listed())
	case err != nil:
		return row, errors.Join(wrap(ErrInternal, err), wrap(ErrIO, lock.Delete()))
	}
	return row, wrap(ErrIO, lock.Listed())
}

// removeVolume removes a volume that nobody uses.
func (c *catalog) removeVolume(ctx context.Context, name string) error {
	lock, err := c.lockVolume(ctx, name)
	if err != nil {
		return err
	}
	defer lock.Release()
	row, err := c.volume(ctx, name, lock)
	if err != nil {
		return err
	}
	if err := c.checkUnused(ctx, row); err != nil {
		return err
	}
	return c.eraseVolume(ctx, lock, row)
}

// checkUnused reports a running sandbox that mounts the volume.
func (c *catalog) checkUnused(ctx context.Context, v store.Volume) error {
	rows, err := c.store.Sandboxes(ctx, store.Filter{Statuses: []store.Status{store.Running, store.Draining, store.Paused, store.Starting}})
	if err != nil {
		return wrap(ErrInternal, err)
	}
	for _, row := range rows {
		row, err := c.reconcile(ctx, row)
		switch {
		case IsKind(err, ErrSandboxNotFound):
			continue
		case err != nil:
			return err
		case live(row.Status) && mountsVolume(row, v.Name):
			return fail(ErrInvalidConfig, "volume %q is attached to active sandbox %q", v.Name, row.Name)
		}
	}
	return nil
}

// mountsVolume reports that a sandbox mounts the volume, or will when it starts again. A
// configuration that cannot be read may do so too.
func mountsVolume(row store.Sandbox, name string) bool {
	for _, text := range []string{row.ActiveConfig, row.Config} {
		if text == "" {
			continue
		}
		s, err := parseSpec(text)
		if err != nil {
			return true
		}
		for _, m := range s.Mounts {
			if m.Type == "Named" && m.Name == name {
				return true
			}
		}
	}
	return false
}

// eraseVolume forgets the volume, then deletes its files. The caller holds its lock.
func (c *catalog) eraseVolume(ctx context.Context, lock *volume.Lock, v store.Volume) error {
	if v.Kind == string(VolumeKindDisk) {
		locks, err := launch.LockDisks([]launch.DiskUse{{Path: c.home.volumes().Disk(v.Name)}})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return wrap(ErrInvalidConfig, err)
		}
		defer launch.UnlockDisks(locks)
	}
	if err := lock.Unlist(); err != nil {
		return wrap(ErrIO, err)
	}
	if _, err := c.store.DeleteVolume(ctx, v.ID); err != nil {
		return wrap(ErrInternal, errors.Join(err, lock.Listed()))
	}
	return wrap(ErrIO, lock.Delete())
}
