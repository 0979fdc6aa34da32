package microsandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
)

// StatVirtualization says where owners, modes and types are kept that the guest gives to
// files of a bind mount.
type StatVirtualization string

// The ways of StatVirtualization; the default is strict.
const (
	StatVirtualizationDefault StatVirtualization = ""
	// StatVirtualizationStrict keeps them in extended attributes of the host's files, and
	// does not start a sandbox where there are none.
	StatVirtualizationStrict StatVirtualization = "strict"
	// StatVirtualizationRelaxed does so as far as the host's file system can.
	StatVirtualizationRelaxed StatVirtualization = "relaxed"
	// StatVirtualizationOff shows and changes the host's own.
	StatVirtualizationOff StatVirtualization = "off"
)

// HostPermissions says what permissions the host's files get.
type HostPermissions string

// The ways of HostPermissions; the default is private.
const (
	HostPermissionsDefault HostPermissions = ""
	// HostPermissionsPrivate leaves new files to the user of this process alone.
	HostPermissionsPrivate HostPermissions = "private"
	// HostPermissionsMirror gives them the permissions that the guest gives.
	HostPermissionsMirror HostPermissions = "mirror"
)

// MountOwner is a user and a group of the guest.
type MountOwner struct{ UID, GID uint32 }

// MountOptions are the options of a mount of the host's files: a bind or a named volume.
// Of those below the first line a disk volume knows none.
type MountOptions struct {
	Readonly, Noexec, Nosuid, Nodev bool
	FollowRootSymlinks              bool // allow symbolic links in the host path
	StatVirtualization              StatVirtualization
	HostPermissions                 HostPermissions
	Owner                           *MountOwner // of files to which the guest gave none; nil: its default user
	QuotaMiB                        uint32      // how much the guest may add to a bind, 0 means 4096; a volume has its own
}

// Bind mounts a directory or a regular file of the host.
func (mountFactory) Bind(hostPath string, o MountOptions) MountConfig {
	m := o.config()
	m.Bind = hostPath
	return m
}

// config is a mount with these options of nothing yet.
func (o MountOptions) config() MountConfig {
	return MountConfig{
		QuotaMiB: o.QuotaMiB, FollowRootSymlinks: o.FollowRootSymlinks, StatVirtualization: o.StatVirtualization, HostPermissions: o.HostPermissions, Owner: o.Owner,
		Readonly: o.Readonly, Noexec: o.Noexec, Nosuid: o.Nosuid, Nodev: o.Nodev,
	}
}

// defaultQuotaMiB bounds what a guest adds to a bind mount that says nothing of it.
const defaultQuotaMiB = 4096

// validateBind checks what belongs to bind mounts only.
func (m MountConfig) validateBind(guest string) error {
	switch {
	case strings.ContainsAny(m.Bind, ":,;\x00"):
		return fail(ErrInvalidConfig, "mount %s: the path %q must not contain a colon, a comma or a semicolon", guest, m.Bind)
	case m.SizeMiB != 0 || m.Format != "" || m.Fstype != "":
		return fail(ErrInvalidConfig, "mount %s: a bind mount has no size, format or file system", guest)
	}
	return m.validateShare(guest)
}

// validateShare checks how the host's files are shown, of a bind or a directory volume.
func (m MountConfig) validateShare(guest string) error {
	if m.StatVirtualization == StatVirtualizationOff && m.HostPermissions == HostPermissionsMirror {
		return fail(ErrInvalidConfig, "mount %s: without stat virtualization the host's permissions are the guest's already: leave out mirror", guest)
	}
	switch m.StatVirtualization {
	case "", StatVirtualizationStrict, StatVirtualizationRelaxed, StatVirtualizationOff:
	default:
		return fail(ErrInvalidConfig, "mount %s: stat virtualization %q: use strict, relaxed or off", guest, m.StatVirtualization)
	}
	switch m.HostPermissions {
	case "", HostPermissionsPrivate, HostPermissionsMirror:
	default:
		return fail(ErrInvalidConfig, "mount %s: host permissions %q: use private or mirror", guest, m.HostPermissions)
	}
	return nil
}

// bindSpec is what is stored of a bind mount.
func (m MountConfig) bindSpec(guest string) (mountSpec, error) {
	abs, err := filepath.Abs(m.Bind)
	if err != nil {
		return mountSpec{}, wrap(ErrInvalidConfig, err)
	}
	s := m.shareSpec(guest)
	s.Type, s.Host, s.QuotaMiB = "Bind", abs, pointer(m.QuotaMiB)
	return s, nil
}

// shareSpec is what is stored of how the host's files are shown.
func (m MountConfig) shareSpec(guest string) mountSpec {
	s := mountSpec{
		Guest: guest, Options: m.flags(), FollowRootSymlinks: m.FollowRootSymlinks,
		StatVirtualization: string(orDefault(m.StatVirtualization, StatVirtualizationStrict)), HostPermissions: string(orDefault(m.HostPermissions, HostPermissionsPrivate)),
	}
	if m.Owner != nil {
		s.Options.OverrideUID, s.Options.OverrideGID = &m.Owner.UID, &m.Owner.GID
	}
	return s
}

// shareConfig is the inverse of shareSpec.
func (m mountSpec) shareConfig() MountConfig {
	c := MountConfig{
		FollowRootSymlinks: m.FollowRootSymlinks, StatVirtualization: StatVirtualization(m.StatVirtualization), HostPermissions: HostPermissions(m.HostPermissions),
		Readonly: m.Options.Readonly, Noexec: m.Options.Noexec, Nosuid: m.Options.Nosuid, Nodev: m.Options.Nodev,
	}
	if o := m.Options; o.OverrideUID != nil && o.OverrideGID != nil {
		c.Owner = &MountOwner{*o.OverrideUID, *o.OverrideGID}
	}
	return c
}

// bindConfig is the inverse of bindSpec.
func (m mountSpec) bindConfig() MountConfig {
	c := m.shareConfig()
	c.Bind, c.QuotaMiB = m.Host, value(m.QuotaMiB)
	return c
}

// launchShare is a share of the host's files, with a quota or none.
func (m mountSpec) launchShare(host string, quota *uint64) launch.Mount {
	return launch.Mount{Tag: launch.GuestMountTag(m.Guest), Host: host, MountOptions: launch.MountOptions{
		ReadOnly: m.Options.Readonly, NoExec: m.Options.Noexec, NoSUID: m.Options.Nosuid, NoDev: m.Options.Nodev,
		StatVirt: m.StatVirtualization, HostPerms: m.HostPermissions, FollowRootSymlinks: m.FollowRootSymlinks,
		QuotaMiB: quota, UID: m.Options.OverrideUID, GID: m.Options.OverrideGID,
	}}
}

// launchBind adds a bind mount to a launch: of a directory, or of a single file.
func (m mountSpec) launchBind(c *launch.Config, flags proto.MountFlags) error {
	stat := os.Lstat
	if m.FollowRootSymlinks {
		stat = os.Stat
	}
	info, err := stat(m.Host)
	if err != nil {
		return &Error{Kind: ErrInvalidConfig, Message: fmt.Sprintf("mount %s: the host path %s", m.Guest, m.Host), Cause: err}
	}
	quota := uint64(defaultQuotaMiB)
	if m.QuotaMiB != nil {
		quota = uint64(*m.QuotaMiB) // 0 lets the guest add nothing
	}
	share := m.launchShare(m.Host, &quota)
	switch {
	case info.IsDir():
		c.Mounts = append(c.Mounts, share.String())
		c.Bootstrap.DirMounts = append(c.Bootstrap.DirMounts, proto.DirMount{Tag: share.Tag, GuestPath: m.Guest, Flags: flags})
	case info.Mode().IsRegular():
		if m.FollowRootSymlinks {
			if share.Host, err = filepath.EvalSymlinks(m.Host); err != nil {
				return wrap(ErrInvalidConfig, err)
			}
		}
		name := filepath.Base(share.Host)
		c.FileMounts = append(c.FileMounts, launch.FileMount{Mount: share.String(), Filename: name})
		c.Bootstrap.FileMounts = append(c.Bootstrap.FileMounts, proto.FileMount{Tag: share.Tag, Filename: name, GuestPath: m.Guest, Flags: flags})
	case info.Mode()&os.ModeSymlink != 0:
		return fail(ErrInvalidConfig, "mount %s: %s is a symbolic link: name what it leads to, or follow root symlinks", m.Guest, m.Host)
	default:
		return fail(ErrInvalidConfig, "mount %s: %s is neither a directory nor a regular file", m.Guest, m.Host)
	}
	return nil
}
