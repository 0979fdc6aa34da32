package proto

import (
	"errors"
	"fmt"
	"strings"
)

// ErrBootstrap is the class of errors about a bootstrap that decoded but makes no sense.
var ErrBootstrap = errors.New("invalid bootstrap")

// Validate checks what the guest demands of a bootstrap: absolute device, guest and
// handoff paths, non-empty texts without NUL, environment keys without '=' or NUL,
// prefixes within the family, known and unique rlimits with soft <= hard, a known security
// profile. Errors wrap [ErrBootstrap] and name the field.
func (b *Bootstrap) Validate() error {
	for _, check := range []func() error{
		b.checkRoot, b.checkMounts, b.checkTexts, b.Network.check, b.checkRlimits, b.checkHandoff,
	} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrBootstrap, err)
		}
	}
	return nil
}

func (b *Bootstrap) checkRoot() error {
	r := b.BlockRoot
	if r == nil {
		return nil
	}
	switch r.Kind {
	case RootDiskImage:
		return first(absolute("block_root.device", r.Device), optionalText("block_root.fstype", r.FSType))
	case RootOCIErofs:
		if r.Upper == nil {
			return errors.New("block_root.upper is missing")
		}
		return first(absolute("block_root.lower", r.Lower), r.Upper.check())
	}
	return fmt.Errorf("block_root.kind %q is not known", r.Kind)
}

func (u *Upper) check() error {
	switch u.Kind {
	case UpperDevice:
		return first(absolute("block_root.upper.device", u.Device), text("block_root.upper.fstype", u.FSType))
	case UpperTmpfs:
		return nil
	}
	return fmt.Errorf("block_root.upper.kind %q is not known", u.Kind)
}

func (b *Bootstrap) checkMounts() error {
	for _, m := range b.DirMounts {
		if err := first(text("dir_mounts.tag", m.Tag), absolute("dir_mounts.guest_path", m.GuestPath)); err != nil {
			return err
		}
	}
	for _, m := range b.FileMounts {
		if err := first(text("file_mounts.tag", m.Tag), fileName(m.Filename),
			absolute("file_mounts.guest_path", m.GuestPath)); err != nil {
			return err
		}
	}
	for _, m := range b.DiskMounts {
		if err := first(text("disk_mounts.id", m.ID), absolute("disk_mounts.guest_path", m.GuestPath),
			optionalText("disk_mounts.fstype", m.FSType)); err != nil {
			return err
		}
	}
	for _, m := range b.TmpfsMounts {
		if err := absolute("tmpfs_mounts.path", m.Path); err != nil {
			return err
		}
	}
	return nil
}

// fileName checks the name of a file inside a shared directory: one path component.
func fileName(name string) error {
	if strings.Contains(name, "/") || name == "." || name == ".." {
		return fmt.Errorf("file_mounts.filename %q is not a plain name", name)
	}
	return text("file_mounts.filename", name)
}

func (b *Bootstrap) checkTexts() error {
	switch b.SecurityProfile.orDefault() {
	case ProfileDefault, ProfileRestricted:
	default:
		return fmt.Errorf("security_profile %q is not known", b.SecurityProfile)
	}
	return first(
		optionalText("hostname", b.Hostname),
		optionalText("host_alias", b.HostAlias),
		optionalText("user", b.User),
		optionalText("default_cwd", b.DefaultCwd),
		environment("default_env", b.DefaultEnv),
	)
}

func (n *Network) check() error {
	if n == nil {
		return nil
	}
	return first(text("network.interface", n.Interface), n.IPv4.check("ipv4", 32), n.IPv6.check("ipv6", 128))
}

func (a *Address) check(family string, bits int) error {
	if a == nil {
		return nil
	}
	ips := []IP{a.Address, a.Gateway}
	if a.DNS != nil {
		ips = append(ips, *a.DNS)
	}
	for _, ip := range ips {
		if ip.BitLen() != bits {
			return fmt.Errorf("network.%s has an address of another family: %s", family, ip)
		}
	}
	if int(a.PrefixLen) > bits {
		return fmt.Errorf("network.%s.prefix_len is %d, at most %d", family, a.PrefixLen, bits)
	}
	return nil
}

func (b *Bootstrap) checkRlimits() error {
	seen := make(map[string]bool, len(b.Rlimits))
	for _, r := range b.Rlimits {
		if _, ok := RlimitNumber(r.Resource); !ok {
			return fmt.Errorf("rlimits: %q is not a known resource", r.Resource)
		}
		name := strings.ToLower(r.Resource)
		if seen[name] {
			return fmt.Errorf("rlimits: %s twice", name)
		}
		seen[name] = true
		if r.Soft > r.Hard {
			return fmt.Errorf("rlimits: %s has a soft limit above the hard one", name)
		}
	}
	return nil
}

func (b *Bootstrap) checkHandoff() error {
	h := b.HandoffInit
	if h == nil {
		return nil
	}
	if h.Cmd != "auto" {
		if err := absolute("handoff_init.cmd", h.Cmd); err != nil {
			return err
		}
	}
	for _, arg := range h.Args {
		if strings.ContainsRune(arg, 0) {
			return errors.New("handoff_init.args contains a NUL byte")
		}
	}
	if h.Cwd != "" {
		if err := absolute("handoff_init.cwd", h.Cwd); err != nil {
			return err
		}
	}
	return environment("handoff_init.env", h.Env)
}

func environment(field string, env []EnvVar) error {
	for _, v := range env {
		if v.Key == "" || strings.ContainsAny(v.Key, "=\x00") {
			return fmt.Errorf("%s: %q is not a variable name", field, v.Key)
		}
		if strings.ContainsRune(v.Value, 0) {
			return fmt.Errorf("%s: the value of %s contains a NUL byte", field, v.Key)
		}
	}
	return nil
}

func text(field, s string) error {
	if s == "" {
		return fmt.Errorf("%s is empty", field)
	}
	return optionalText(field, s)
}

func optionalText(field, s string) error {
	if strings.ContainsRune(s, 0) {
		return fmt.Errorf("%s contains a NUL byte", field)
	}
	return nil
}

func absolute(field, path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("%s %q is not an absolute path", field, path)
	}
	return optionalText(field, path)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// RlimitNumber returns the Linux number of a resource name, in any case.
func RlimitNumber(name string) (n int, ok bool) {
	for i, known := range [...]string{
		"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
		"locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
	} {
		if strings.EqualFold(name, known) {
			return i, true
		}
	}
	return 0, false
}
