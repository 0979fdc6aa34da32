package microsandbox

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
)

// validate checks what needs no look at the host.
func (m MountConfig) validate(guest string) error {
	clean := path.Clean(guest)
	switch {
	case !path.IsAbs(guest) || strings.ContainsRune(guest, 0):
		return fail(ErrInvalidConfig, "mount path %q is not absolute", guest)
	case clean == "/":
		return fail(ErrInvalidConfig, "cannot mount over /")
	case slices.Contains(strings.Split(guest, "/"), ".."):
		return fail(ErrInvalidConfig, "mount path %q must not contain ..", guest)
	case strings.ContainsAny(guest, ":;,"):
		return fail(ErrInvalidConfig, "mount path %q must not contain a colon, a semicolon or a comma", guest)
	case m.Kind() == 0:
		return fail(ErrInvalidConfig, "mount %s: choose a host path, a volume, a tmpfs or a disk image", guest)
	}
	switch m.Kind() {
	case MountKindBind:
		if m.isNamedOnly() {
			return fail(ErrInvalidConfig, "mount %s: mode and kind belong to named volumes", guest)
		}
		return m.validateBind(guest)
	case MountKindNamed:
		return m.validateNamed(guest)
	}
	if m.QuotaMiB != 0 || m.FollowRootSymlinks || m.StatVirtualization != "" || m.HostPermissions != "" || m.Owner != nil || m.isNamedOnly() {
		return fail(ErrInvalidConfig, "mount %s: quota, links, stat virtualization, host permissions and owner belong to bind mounts and volumes", guest)
	}
	if m.Tmpfs {
		return nil
	}
	return m.validateDisk(guest)
}

func (m MountConfig) isNamedOnly() bool { return m.NamedMode != "" || m.NamedKind != "" }

// validateDisk checks what belongs to disk images only.
func (m MountConfig) validateDisk(guest string) error {
	switch {
	case m.SizeMiB != 0:
		return fail(ErrInvalidConfig, "mount %s: a disk image has the size it has", guest)
	case strings.ContainsAny(m.Disk, ":\x00"):
		return fail(ErrInvalidConfig, "mount %s: the path %q must not contain a colon", guest, m.Disk)
	case !slices.Contains([]string{"", "raw", "qcow2", "vmdk"}, m.Format):
		return fail(ErrInvalidConfig, "mount %s: unknown disk image format %q: use raw, qcow2 or vmdk", guest, m.Format)
	case m.diskFormat() == "Vmdk" && !m.Readonly:
		return fail(ErrInvalidConfig, "mount %s: a vmdk image can only be mounted read-only", guest)
	case strings.ContainsAny(m.Fstype, ",;:="):
		return fail(ErrInvalidConfig, "mount %s: the file system %q must not contain any of , ; : =", guest, m.Fstype)
	}
	return checkSerial(guest)
}

// checkSerial reports whether a disk can be mounted on guest: its serial number, by which
// the guest finds it, is made of the path.
func checkSerial(guest string) error {
	if len(launch.GuestMountTag(path.Clean(guest))) > launch.MaxSerial {
		return fail(ErrInvalidConfig, "mount %s: a disk's path in the guest must begin with ASCII characters", guest)
	}
	return nil
}

// diskFormat is the format of the disk image as it is stored.
func (m MountConfig) diskFormat() string {
	switch m.Format {
	case "":
		return diskFormat(m.Disk)
	case "qcow2":
		return "Qcow2"
	case "vmdk":
		return "Vmdk"
	}
	return "Raw"
}

func (m MountConfig) flags() mountFlags {
	return mountFlags{Readonly: m.Readonly, Noexec: m.Noexec, Nosuid: m.Nosuid, Nodev: m.Nodev}
}

// spec is what is stored of the mount.
func (m MountConfig) spec(guest string) (mountSpec, error) {
	switch m.Kind() {
	case MountKindBind:
		return m.bindSpec(guest)
	case MountKindNamed:
		s := m.shareSpec(guest)
		s.Type, s.Name = "Named", m.Named
		return s, nil
	case MountKindTmpfs:
		return mountSpec{Type: "Tmpfs", Guest: guest, SizeMiB: pointer(m.SizeMiB), Options: m.flags()}, nil
	}
	abs, err := filepath.Abs(m.Disk)
	if err != nil {
		return mountSpec{}, wrap(ErrInvalidConfig, err)
	}
	return mountSpec{Type: "DiskImage", Host: abs, Guest: guest, Format: m.diskFormat(), Fstype: pointer(m.Fstype), Options: m.flags()}, nil
}

// config is the inverse of MountConfig.spec.
func (m mountSpec) config() MountConfig {
	switch m.Type {
	case "Bind":
		return m.bindConfig()
	case "Named":
		c := m.shareConfig()
		c.Named = m.Name
		return c
	}
	return MountConfig{
		Tmpfs: m.Type == "Tmpfs", Disk: m.Host, Format: strings.ToLower(m.Format), Fstype: value(m.Fstype), SizeMiB: value(m.SizeMiB),
		Readonly: m.Options.Readonly, Noexec: m.Options.Noexec, Nosuid: m.Options.Nosuid, Nodev: m.Options.Nodev,
	}
}

// launchDisk adds a disk image to a launch.
func (m mountSpec) launchDisk(c *launch.Config, flags proto.MountFlags) {
	d := launch.Disk{ID: launch.GuestMountTag(m.Guest), Host: m.Host, Format: strings.ToLower(m.Format), ReadOnly: m.Options.Readonly}
	c.Disks = append(c.Disks, d.String())
	c.Bootstrap.DiskMounts = append(c.Bootstrap.DiskMounts, proto.DiskMount{ID: d.ID, GuestPath: m.Guest, FSType: value(m.Fstype), Flags: flags})
}
