package microsandbox

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/rootfs/volume"
)

// foundVolume is a volume that a sandbox is about to use.
type foundVolume struct {
	store.Volume
	folder volume.Folder
}

// heldVolumes are the volumes of a sandbox that is about to start. Nobody makes or removes
// them until release.
type heldVolumes struct {
	*catalog
	locks map[string]*volume.Lock
	found map[string]foundVolume
	made  []store.Volume
}

// holdVolumes finds the volumes of the sandbox, or makes those that cfg wants to be made;
// cfg is nil for a sandbox that exists. The caller holds the sandbox's lifecycle lock.
func (c *catalog) holdVolumes(ctx context.Context, s *spec, cfg *SandboxConfig) (*heldVolumes, error) {
	h := &heldVolumes{catalog: c, locks: map[string]*volume.Lock{}, found: map[string]foundVolume{}}
	for _, name := range s.volumeNames() {
		lock, err := c.lockVolume(ctx, name)
		if err != nil {
			h.release()
			return nil, err
		}
		h.locks[name] = lock
	}
	for _, m := range s.wantedVolumes(cfg) {
		if err := h.find(ctx, m); err != nil {
			err = errors.Join(err, h.undo(ctx))
			h.release()
			return nil, err
		}
	}
	s.volumes = h.found
	return h, nil
}

// volumeNames are the names of the volumes, each once, in the order of their locks.
func (s *spec) volumeNames() (names []string) {
	for _, m := range s.Mounts {
		if m.Type == "Named" {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// wantedVolumes are the mounts of volumes, those first that want theirs not to be there.
func (s *spec) wantedVolumes(cfg *SandboxConfig) (mounts []MountConfig) {
	for _, m := range s.Mounts {
		if m.Type != "Named" {
			continue
		}
		want := m.config()
		if cfg != nil {
			want = cfg.mountOn(m.Guest)
		}
		if want.NamedMode == namedCreate {
			mounts = append([]MountConfig{want}, mounts...)
		} else {
			mounts = append(mounts, want)
		}
	}
	return mounts
}

// find looks a volume up, or makes it.
func (h *heldVolumes) find(ctx context.Context, m MountConfig) error {
	v, err := h.volume(ctx, m.Named, h.locks[m.Named])
	switch {
	case err == nil:
		if err := m.fits(v); err != nil {
			return err
		}
	case IsKind(err, ErrVolumeNotFound) && m.makesVolume():
		if v, err = h.makeVolume(ctx, h.locks[m.Named], m.Named, m.volumeConfig()); err != nil {
			return err
		}
		h.made = append(h.made, v)
	default:
		return err
	}
	if _, again := h.found[m.Named]; again && v.Kind == string(VolumeKindDisk) {
		return fail(ErrInvalidConfig, "a disk cannot be attached more than once per sandbox: volume %q", v.Name)
	}
	h.found[m.Named] = foundVolume{v, h.home.volumes()}
	return nil
}

// undo removes the volumes that were made for a sandbox that is not to be.
func (h *heldVolumes) undo(ctx context.Context) error {
	var errs []error
	for _, v := range h.made {
		errs = append(errs, h.eraseVolume(context.WithoutCancel(ctx), h.locks[v.Name], v))
	}
	h.made = nil
	return errors.Join(errs...)
}

func (h *heldVolumes) release() {
	for _, l := range h.locks {
		l.Release()
	}
}

// withVolumes finds or makes the sandbox's volumes, and has claim make its row say that it
// runs, after which nobody removes them. The caller holds the sandbox's lifecycle lock.
func (b *boot) withVolumes(ctx context.Context, claim func() error) error {
	volumes, err := b.holdVolumes(ctx, b.spec, b.config)
	if err != nil {
		return err
	}
	defer volumes.release()
	if err := claim(); err != nil {
		return errors.Join(err, volumes.undo(ctx))
	}
	b.made = volumes.made
	return nil
}

// eraseMade removes the volumes that were made for a sandbox that did not come up, unless
// others have found a use for them.
func (b *boot) eraseMade(ctx context.Context) error {
	var errs []error
	for _, v := range b.made {
		if err := b.eraseUnused(ctx, v); !IsKind(err, ErrVolumeNotFound) && !IsKind(err, ErrInvalidConfig) {
			errs = append(errs, err)
		}
	}
	b.made = nil
	return errors.Join(errs...)
}

func (b *boot) eraseUnused(ctx context.Context, v store.Volume) error {
	if v.Kind == string(VolumeKindDir) {
		if used, err := b.home.volumes().Used(v.Name, false); err != nil || used > 0 {
			return nil // of somebody else: our guest did not come so far
		}
	}
	ctx, cancel := context.WithTimeout(ctx, abortGrace)
	defer cancel()
	return b.removeVolume(ctx, v.Name)
}

// mountOn is the mount on a path, which may have been written in another way.
func (c *SandboxConfig) mountOn(guest string) MountConfig {
	for path, m := range c.Volumes {
		if filepath.Clean(path) == guest {
			return m
		}
	}
	return MountConfig{}
}
