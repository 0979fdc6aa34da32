package microsandbox

import (
	"fmt"
	"slices"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// What NamedVolumeOptions may say of a volume that is not there, or is.
const (
	namedExisting     = "existing"
	namedCreate       = "create"
	namedEnsureExists = "ensure-exists"
)

// NamedVolumeOptions say whether a mount makes its volume, and what volume. They count
// when the sandbox is created; later starts want the volume to be there.
type NamedVolumeOptions struct {
	// Mode is "existing", the default: the volume must be there; "create": it must not;
	// or "ensure-exists", which takes one that is there if it is of the same kind and, as
	// far as they are given, size and quota.
	Mode string
	Kind string // "dir", the default, or "disk"

	SizeMiB  uint32 // of a disk that is made
	QuotaMiB uint32 // of a directory that is made; 0 is none
}

// Named mounts a volume that exists.
func (mountFactory) Named(name string, o MountOptions) MountConfig {
	m := o.config()
	m.Named = name
	return m
}

// NamedWith mounts a volume and may make it.
func (mountFactory) NamedWith(name string, o MountOptions, v NamedVolumeOptions) MountConfig {
	m := Mount.Named(name, o)
	m.NamedMode, m.NamedKind, m.SizeMiB, m.QuotaMiB = v.Mode, v.Kind, v.SizeMiB, orDefault(v.QuotaMiB, o.QuotaMiB)
	return m
}

func (m MountConfig) makesVolume() bool { return m.NamedMode != "" && m.NamedMode != namedExisting }

// validateNamed checks what belongs to named volumes only.
func (m MountConfig) validateNamed(guest string) error {
	if err := checkVolumeName(m.Named); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{"", namedExisting, namedCreate, namedEnsureExists}, m.NamedMode):
		return fail(ErrInvalidConfig, "mount %s: volume mode %q: use existing, create or ensure-exists", guest, m.NamedMode)
	case m.Format != "" || m.Fstype != "":
		return fail(ErrInvalidConfig, "mount %s: the volume says what its format and file system are", guest)
	case !m.makesVolume() && (m.SizeMiB != 0 || m.QuotaMiB != 0):
		return fail(ErrInvalidConfig, "mount %s: a volume that exists has its own size and quota: leave them out, or let the mount make it", guest)
	case m.NamedKind == string(VolumeKindDisk) && m.sharesFiles():
		return fail(ErrInvalidConfig, "mount %s: stat virtualization, host permissions and owner belong to directory volumes", guest)
	}
	if m.makesVolume() {
		if err := m.volumeConfig().validate(m.Named); err != nil {
			return err
		}
	} else if !slices.Contains([]VolumeKind{"", VolumeKindDir, VolumeKindDisk}, VolumeKind(m.NamedKind)) {
		return fail(ErrInvalidConfig, "mount %s: volume kind %q: use dir or disk", guest, m.NamedKind)
	}
	if err := m.validateShare(guest); err != nil {
		return err
	}
	return checkSerial(guest) // it may be a disk
}

// sharesFiles reports options that only a directory can have.
func (m MountConfig) sharesFiles() bool {
	return orDefault(m.StatVirtualization, StatVirtualizationStrict) != StatVirtualizationStrict ||
		orDefault(m.HostPermissions, HostPermissionsPrivate) != HostPermissionsPrivate || m.Owner != nil
}

// volumeConfig is the volume that the mount would make.
func (m MountConfig) volumeConfig() VolumeConfig {
	return VolumeConfig{Kind: orDefault(VolumeKind(m.NamedKind), VolumeKindDir), SizeMiB: m.SizeMiB, QuotaMiB: m.QuotaMiB}
}

// fits reports why a volume that is there is not the one that the mount would have made,
// or expects.
func (m MountConfig) fits(v store.Volume) error {
	no := func(format string, args ...any) error {
		return fail(ErrInvalidConfig, "named volume %q already exists %s", v.Name, fmt.Sprintf(format, args...))
	}
	quota, capacity := "no quota", int64(value(v.Capacity))
	if v.QuotaMiB != nil {
		quota = fmt.Sprintf("a quota of %d MiB", *v.QuotaMiB)
	}
	want := m.volumeConfig()
	switch {
	case m.NamedMode == namedCreate:
		return volumeExists(v.Name)
	case (m.makesVolume() || m.NamedKind != "") && VolumeKind(v.Kind) != want.Kind:
		return no("as %s, but this sandbox requested %s", v.Kind, want.Kind)
	case want.SizeMiB != 0 && capacity != int64(want.SizeMiB)<<20:
		return no("with capacity %d bytes, but this sandbox requested %d bytes", capacity, int64(want.SizeMiB)<<20)
	case want.QuotaMiB != 0 && value(v.QuotaMiB) != want.QuotaMiB:
		return no("with %s, but this sandbox requested %d MiB", quota, want.QuotaMiB)
	}
	return nil
}

// launchNamed adds a volume to a launch.
func (m mountSpec) launchNamed(c *launch.Config, flags proto.MountFlags, v foundVolume) error {
	if v.Kind == string(VolumeKindDisk) {
		if m.config().sharesFiles() {
			return fail(ErrInvalidConfig, "mount %s: volume %s is a disk: stat virtualization, host permissions and owner belong to directories", m.Guest, m.Name)
		}
		m.Host, m.Format, m.Fstype = v.folder.Disk(m.Name), orDefault(v.Format, "raw"), pointer(orDefault(v.Fstype, "ext4"))
		m.launchDisk(c, flags)
		return nil
	}
	quota, err := v.left()
	if err != nil {
		return err
	}
	share := m.launchShare(v.folder.Path(m.Name), quota)
	c.Mounts = append(c.Mounts, share.String())
	c.Bootstrap.DirMounts = append(c.Bootstrap.DirMounts, proto.DirMount{Tag: share.Tag, GuestPath: m.Guest, Flags: flags})
	return nil
}

// left is how much of its quota the volume has left, MiB and a last part of one; nil
// without a quota. The runtime, which knows nothing of volumes, bounds what one guest
// adds.
func (v foundVolume) left() (*uint64, error) {
	if v.QuotaMiB == nil {
		return nil, nil
	}
	used, err := v.folder.Used(v.Name, false)
	if err != nil {
		return nil, &Error{Kind: ErrIO, Message: "what volume " + v.Name + " has of its quota", Cause: err}
	}
	const mib = 1 << 20
	left := uint64(max(int64(*v.QuotaMiB)*mib-used, 0)+mib-1) / mib
	return &left, nil
}
