package flagtype

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MountOptions are the options of a mount flag, comma separated.
type MountOptions struct {
	Readonly, Noexec, Nosuid, Nodev bool
	SizeMiB                         uint32 // of a tmpfs or a disk volume
	Format, Fstype                  string // of a disk image
	Kind                            string // of a volume: dir or disk, empty if not given
	FollowRootSymlinks              bool   // this and the following of a bind or a volume
	StatVirt, HostPerms             string
	QuotaMiB                        uint32
	UID, GID                        *uint32 // both or none
}

var (
	anyMount   = []string{"ro", "rw", "noexec", "nosuid", "nodev"}
	shareMount = slices.Concat(anyMount, []string{"follow-root-symlinks", "stat-virt", "host-perms", "quota", "uid", "gid"})

	// mountOptions are the options that each flag knows.
	mountOptions = map[string][]string{
		"volume": shareMount, "mount-dir": shareMount, "mount-file": shareMount,
		"mount-named": slices.Concat(shareMount, []string{"kind", "size"}),
		"mount-disk":  slices.Concat(anyMount, []string{"format", "fstype"}),
		"tmpfs":       slices.Concat(anyMount, []string{"size"}),
	}
)

// IsPath reports that the source of a volume is a path of the host, not a name.
func IsPath(source string) bool {
	return source == "." || source == ".." || strings.HasPrefix(source, "/") || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

// Mount splits SOURCE:GUEST[:OPTIONS], the value of a mount flag, at the first colon that
// a slash follows.
func Mount(flag, s string) (source, guest string, o MountOptions, err error) {
	i := strings.Index(s, ":/")
	switch {
	case i < 0:
		return "", "", o, fmt.Errorf("%s must be in format source:/guest[:options]: %s", flag, s)
	case i == 0:
		return "", "", o, fmt.Errorf("%s source must not be empty", flag)
	}
	source = s[:i]
	guest, rest, more := strings.Cut(s[i+1:], ":")
	if path, opts, comma := strings.Cut(guest, ","); comma && !more {
		return "", "", o, fmt.Errorf("%s options must use source:guest:options syntax, for example %s:%s:%s", flag, source, path, opts)
	}
	if o, err = parseOptions(flag, rest); err == nil && flag == "mount-named" {
		err = o.checkNamed(source)
	}
	return source, guest, o, err
}

// checkNamed reports options of a volume that do not go together.
func (o *MountOptions) checkNamed(source string) error {
	switch disk := o.Kind == "disk"; {
	case IsPath(source):
		return fmt.Errorf("mount-named source must be a volume name, not a host path: %s", source)
	case disk && o.SizeMiB == 0:
		return errors.New("mount-named kind=disk requires size=SIZE")
	case disk && o.QuotaMiB != 0:
		return errors.New("mount-named kind=disk does not support quota")
	case disk && (o.StatVirt != "" || o.HostPerms != "" || o.UID != nil):
		return errors.New("mount-named kind=disk does not support stat-virt=..., host-perms=..., or uid/gid")
	case !disk && o.SizeMiB != 0:
		return errors.New("mount-named option `size` requires kind=disk")
	}
	return nil
}

// Tmpfs parses PATH, PATH:SIZE, PATH:OPTIONS or PATH:SIZE:OPTIONS.
func Tmpfs(s string) (guest string, o MountOptions, err error) {
	guest, rest, more := strings.Cut(s, ":")
	if !strings.HasPrefix(guest, "/") {
		return "", o, fmt.Errorf("invalid config: guest mount path must be absolute: %s", guest)
	}
	if !more {
		return guest, o, nil
	}
	first, second, both := strings.Cut(rest, ":")
	mib, sizeErr := MiB(first)
	switch {
	case sizeErr != nil && both:
		return "", o, fmt.Errorf("invalid tmpfs %q: %q is not a size", s, first)
	case sizeErr != nil:
		o, err = parseOptions("tmpfs", first)
		return guest, o, err
	}
	if o, err = parseOptions("tmpfs", second); err == nil && o.SizeMiB != 0 {
		err = fmt.Errorf("invalid tmpfs %q: its size is given twice", s)
	}
	o.SizeMiB = mib
	return guest, o, err
}

func parseOptions(flag, list string) (o MountOptions, err error) {
	seen := map[string]bool{}
	for _, opt := range strings.Split(list, ",") {
		if opt == "" {
			continue
		}
		key, value, keyed := strings.Cut(opt, "=")
		name := key
		if key == "ro" || key == "rw" {
			name = "ro`/`rw"
		}
		if seen[name] {
			return o, fmt.Errorf("mount option `%s` specified more than once", name)
		}
		seen[name] = true
		switch {
		case key == "suid" || key == "exec" || key == "dev":
			return o, fmt.Errorf("unsupported mount option %q", key)
		case !slices.Contains(mountOptions[flag], key):
			return o, fmt.Errorf("mount option `%s` is not valid here", key)
		case keyed:
			err = o.setValue(key, value)
		default:
			err = o.setFlag(key)
		}
		if err != nil {
			return o, err
		}
	}
	if (o.UID == nil) != (o.GID == nil) {
		return o, errors.New("mount options `uid` and `gid` must be specified together")
	}
	return o, nil
}

func (o *MountOptions) setFlag(key string) error {
	flag := map[string]*bool{"ro": &o.Readonly, "rw": new(bool), "noexec": &o.Noexec, "nosuid": &o.Nosuid, "nodev": &o.Nodev, "follow-root-symlinks": &o.FollowRootSymlinks}[key]
	if flag == nil {
		return fmt.Errorf("mount option `%s` needs a value: %s=VALUE", key, key)
	}
	*flag = true
	return nil
}

func (o *MountOptions) setValue(key, value string) (err error) {
	one := func(dst *string, possible ...string) error {
		*dst = value
		if !slices.Contains(possible, value) {
			return fmt.Errorf("invalid %s %q (expected %s)", key, value, strings.Join(possible, "|"))
		}
		return nil
	}
	id := func(dst **uint32) error {
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return fmt.Errorf("invalid %s %q (expected an unsigned integer)", key, value)
		}
		v := uint32(n)
		*dst = &v
		return nil
	}
	switch key {
	case "stat-virt":
		return one(&o.StatVirt, "strict", "relaxed", "off")
	case "host-perms":
		return one(&o.HostPerms, "private", "mirror")
	case "kind":
		return one(&o.Kind, "dir", "disk")
	case "format":
		return one(&o.Format, "raw", "qcow2", "vmdk")
	case "uid":
		return id(&o.UID)
	case "gid":
		return id(&o.GID)
	case "size":
		o.SizeMiB, err = MiB(value)
		return err
	case "quota":
		if o.QuotaMiB, err = MiB(value); err == nil && o.QuotaMiB == 0 {
			err = errors.New("mount option `quota` must not be 0: mount it with ro")
		}
		return err
	case "fstype":
		if o.Fstype = value; value == "" {
			return errors.New("mount option `fstype` must not be empty")
		}
		return nil
	}
	return fmt.Errorf("mount option `%s` takes no value", key)
}
