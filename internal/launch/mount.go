package launch

import (
	"fmt"
	"strconv"
	"strings"
)

// Mount is a shared host directory or file: "tag:host[:opt,...]". The first two colons
// split, so neither the tag nor the host path may contain one.
type Mount struct {
	Tag  string // device tag, at most 36 bytes
	Host string // host path, not empty, without comma
	MountOptions
}

// MountOptions are the options of a mount string. The zero value with the two named
// modes is what a string without options means.
type MountOptions struct {
	ReadOnly           bool
	NoExec             bool // NoExec, NoSUID and NoDev are applied by the guest
	NoSUID             bool
	NoDev              bool
	StatVirt           string  // strict, relaxed or off
	HostPerms          string  // private or mirror
	FollowRootSymlinks bool    // resolve symlinks in the mount's root
	QuotaMiB           *uint64 // limit of what the guest writes, MiB
	UID, GID           *uint32 // owner the guest sees
}

// ParseMount parses a mount string. Errors wrap [ErrMount].
func ParseMount(s string) (Mount, error) {
	parts := strings.SplitN(s, ":", 3)
	m := Mount{MountOptions: MountOptions{StatVirt: "strict", HostPerms: "private"}}
	if len(parts) < 2 {
		return Mount{}, mountf(s, "want tag:host[:options]")
	}
	m.Tag, m.Host = parts[0], parts[1]
	switch {
	case m.Tag == "" || len(m.Tag) > 36:
		return Mount{}, mountf(s, "the tag is not 1 to 36 bytes")
	case m.Host == "":
		return Mount{}, mountf(s, "the host path is empty")
	case strings.ContainsAny(m.Host, ",\x00"):
		return Mount{}, mountf(s, "the host path contains a comma or NUL")
	}
	if len(parts) == 3 {
		if err := m.parseOptions(parts[2]); err != nil {
			return Mount{}, mountf(s, "%v", err)
		}
	}
	return m, nil
}

func mountf(s, format string, args ...any) error {
	return fmt.Errorf("%w %q: %s", ErrMount, s, fmt.Sprintf(format, args...))
}

func (o *MountOptions) parseOptions(list string) error {
	seen := make(map[string]bool)
	for opt := range strings.SplitSeq(list, ",") {
		key, value, hasValue := strings.Cut(opt, "=")
		class := key
		if key == "rw" {
			class = "ro"
		}
		if seen[class] {
			return fmt.Errorf("option %q is given twice", key)
		}
		seen[class] = true
		if err := o.set(key, value, hasValue); err != nil {
			return err
		}
	}
	return nil
}

func (o *MountOptions) set(key, value string, hasValue bool) error {
	flag := map[string]*bool{
		"ro": &o.ReadOnly, "noexec": &o.NoExec, "nosuid": &o.NoSUID, "nodev": &o.NoDev,
		"follow-root-symlinks": &o.FollowRootSymlinks,
	}[key]
	switch {
	case flag != nil && !hasValue:
		*flag = true
		return nil
	case key == "rw" && !hasValue:
		return nil
	case !hasValue:
		return fmt.Errorf("option %q is unknown", key)
	}
	switch key {
	case "stat-virt":
		return choose(&o.StatVirt, key, value, "strict", "relaxed", "off")
	case "host-perms":
		return choose(&o.HostPerms, key, value, "private", "mirror")
	case "quota":
		n, err := strconv.ParseUint(value, 10, 44) // in MiB; the bytes still fit 64 bits
		if err != nil {
			return fmt.Errorf("quota %q is not a number of MiB", value)
		}
		o.QuotaMiB = &n
		return nil
	case "uid", "gid":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return fmt.Errorf("%s %q is not a 32-bit id", key, value)
		}
		id := uint32(n)
		if key == "uid" {
			o.UID = &id
		} else {
			o.GID = &id
		}
		return nil
	}
	return fmt.Errorf("option %q is unknown", key)
}

func choose(dst *string, key, value string, choices ...string) error {
	if !oneOf(value, choices...) {
		return fmt.Errorf("%s=%s: choose %s", key, value, strings.Join(choices, ", "))
	}
	*dst = value
	return nil
}

// String writes the mount string, options that have their default value left out.
func (m Mount) String() string {
	var opts []string
	add := func(set bool, opt string) {
		if set {
			opts = append(opts, opt)
		}
	}
	add(m.ReadOnly, "ro")
	add(m.NoExec, "noexec")
	add(m.NoSUID, "nosuid")
	add(m.NoDev, "nodev")
	add(m.StatVirt != "" && m.StatVirt != "strict", "stat-virt="+m.StatVirt)
	add(m.HostPerms != "" && m.HostPerms != "private", "host-perms="+m.HostPerms)
	add(m.FollowRootSymlinks, "follow-root-symlinks")
	if m.QuotaMiB != nil {
		add(true, "quota="+strconv.FormatUint(*m.QuotaMiB, 10))
	}
	if m.UID != nil {
		add(true, "uid="+strconv.FormatUint(uint64(*m.UID), 10))
	}
	if m.GID != nil {
		add(true, "gid="+strconv.FormatUint(uint64(*m.GID), 10))
	}
	s := m.Tag + ":" + m.Host
	if len(opts) > 0 {
		s += ":" + strings.Join(opts, ",")
	}
	return s
}
