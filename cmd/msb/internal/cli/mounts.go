package cli

import (
	"fmt"
	"os"
	"path"

	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	msb "github.com/gomsb/gomsb/sdk"
)

// mountFlags are the flags that mount something in a new sandbox.
type mountFlags struct {
	volumes, dirs, files, named, disks, tmpfs []string
}

func (m *mountFlags) flags(f *pflag.FlagSet) {
	f.StringArrayVarP(&m.volumes, "volume", "v", nil, "mount a directory or file of this machine, or a named volume, SOURCE:/GUEST[:OPTIONS] (repeatable)")
	f.StringArrayVar(&m.dirs, "mount-dir", nil, "mount a directory of this machine (repeatable)")
	f.StringArrayVar(&m.files, "mount-file", nil, "mount a file of this machine (repeatable)")
	f.StringArrayVar(&m.named, "mount-named", nil, "mount a named volume, made if it is not there, NAME:/GUEST[:OPTIONS] (repeatable)")
	f.StringArrayVar(&m.disks, "mount-disk", nil, "mount a disk image, FILE:/GUEST[:OPTIONS] (repeatable)")
	f.StringArrayVar(&m.tmpfs, "tmpfs", nil, "mount a file system in memory, /GUEST[:SIZE][:OPTIONS] (repeatable)")
}

// mounts are all mounts by their path in the guest, those of configuration files too.
func (m *mountFlags) mounts(configured []configuredMount) (map[string]msb.MountConfig, error) {
	all, seen := map[string]msb.MountConfig{}, map[string]bool{}
	add := func(guest string, c msb.MountConfig) error {
		clean := path.Clean(guest)
		if seen[clean] {
			return fmt.Errorf("multiple volumes cannot mount the same guest path: %s", clean)
		}
		all[guest], seen[clean] = c, true
		return nil
	}
	for _, c := range configured {
		if err := add(c.guest, c.mount); err != nil {
			return nil, err
		}
	}
	for _, list := range []struct {
		flag   string
		values []string
	}{{"volume", m.volumes}, {"mount-dir", m.dirs}, {"mount-file", m.files}, {"mount-named", m.named}, {"mount-disk", m.disks}} {
		for _, s := range list.values {
			source, guest, o, err := flagtype.Mount(list.flag, s)
			if err != nil {
				return nil, err
			}
			c, err := mountOf(list.flag, source, o)
			if err == nil {
				err = add(guest, c)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	for _, s := range m.tmpfs {
		guest, o, err := flagtype.Tmpfs(s)
		if err == nil {
			err = add(guest, msb.Mount.Tmpfs(msb.TmpfsOptions{SizeMiB: o.SizeMiB, Readonly: o.Readonly, Noexec: o.Noexec, Nosuid: o.Nosuid, Nodev: o.Nodev}))
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// mountOf is the mount that a flag asks for.
func mountOf(flag, source string, o flagtype.MountOptions) (msb.MountConfig, error) {
	if flag == "mount-disk" {
		return msb.Mount.Disk(source, msb.DiskOptions{Format: o.Format, Fstype: o.Fstype, Readonly: o.Readonly, Noexec: o.Noexec, Nosuid: o.Nosuid, Nodev: o.Nodev}), nil
	}
	share := msb.MountOptions{
		Readonly: o.Readonly, Noexec: o.Noexec, Nosuid: o.Nosuid, Nodev: o.Nodev, FollowRootSymlinks: o.FollowRootSymlinks,
		StatVirtualization: msb.StatVirtualization(o.StatVirt), HostPermissions: msb.HostPermissions(o.HostPerms), QuotaMiB: o.QuotaMiB,
	}
	if o.UID != nil {
		share.Owner = &msb.MountOwner{UID: *o.UID, GID: *o.GID}
	}
	if flag == "mount-named" || flag == "volume" && !flagtype.IsPath(source) {
		return msb.Mount.NamedWith(source, share, msb.NamedVolumeOptions{Mode: "ensure-exists", Kind: o.Kind, SizeMiB: o.SizeMiB, QuotaMiB: o.QuotaMiB}), nil
	}
	return msb.Mount.Bind(source, share), checkSource(flag, source)
}

// checkSource looks whether the source of a flag that wants a directory or a file is one.
func checkSource(flag, source string) error {
	if flag == "volume" {
		return nil
	}
	info, err := os.Stat(source)
	switch {
	case err != nil:
		return fmt.Errorf("%s source: %w", flag, err)
	case flag == "mount-dir" && !info.IsDir():
		return fmt.Errorf("mount-dir source is not a directory: %s", source)
	case flag == "mount-file" && !info.Mode().IsRegular():
		return fmt.Errorf("mount-file source is not a regular file: %s", source)
	}
	return nil
}
