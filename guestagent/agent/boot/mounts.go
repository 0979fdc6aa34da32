//go:build linux

package boot

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// mount is one file system that the user asked for.
type mount struct {
	target string // clean, absolute
	flags  uintptr
	kind   mountKind

	tag      string // dir and file: the share; disk: the serial
	filename string // file
	fstype   string // disk; "" tries all
	data     string // tmpfs
}

type mountKind uint8

const (
	dirMount mountKind = iota
	fileMount
	diskMount
	tmpfsMount
)

// mountPlan is all of them, parents before what is mounted inside them.
type mountPlan []mount

// planMounts sorts a bootstrap's mounts and refuses those that cannot all be there.
func planMounts(b *proto.Bootstrap) (mountPlan, error) {
	var plan mountPlan
	for _, m := range b.DirMounts {
		plan = append(plan, mount{target: m.GuestPath, flags: flagsOf(m.Flags), kind: dirMount, tag: m.Tag})
	}
	for _, m := range b.FileMounts {
		plan = append(plan, mount{target: m.GuestPath, flags: flagsOf(m.Flags), kind: fileMount, tag: m.Tag, filename: m.Filename})
	}
	for _, m := range b.DiskMounts {
		plan = append(plan, mount{target: m.GuestPath, flags: flagsOf(m.Flags), kind: diskMount, tag: m.ID, fstype: m.FSType})
	}
	for _, m := range b.TmpfsMounts {
		plan = append(plan, mount{target: m.Path, flags: flagsOf(m.Flags), kind: tmpfsMount, data: tmpfsData(m.SizeMiB, tmpfsMode(m))})
	}
	for n := range plan {
		target, err := cleanTarget(plan[n].target)
		if err != nil {
			return nil, err
		}
		plan[n].target = target
	}
	slices.SortStableFunc(plan, func(a, b mount) int {
		if d := strings.Count(a.target, "/") - strings.Count(b.target, "/"); d != 0 {
			return d
		}
		return strings.Compare(a.target, b.target)
	})
	return plan, plan.check()
}

func flagsOf(f proto.MountFlags) uintptr {
	flags := uintptr(unix.MS_RELATIME)
	for bit, set := range map[uintptr]bool{
		unix.MS_RDONLY: f.ReadOnly, unix.MS_NOEXEC: f.NoExec, unix.MS_NOSUID: f.NoSUID, unix.MS_NODEV: f.NoDev,
	} {
		if set {
			flags |= bit
		}
	}
	return flags
}

func tmpfsMode(m proto.TmpfsMount) uint32 {
	switch {
	case m.Mode != nil:
		return *m.Mode & 0o7777
	case m.Path == "/tmp" || m.Path == "/var/tmp":
		return tmpMode
	}
	return 0o755
}

// cleanTarget normalises a mount point.
func cleanTarget(target string) (string, error) {
	if !strings.HasPrefix(target, "/") {
		return "", fmt.Errorf("mount point %q is not an absolute path", target)
	}
	if slices.Contains(strings.Split(target, "/"), "..") {
		return "", fmt.Errorf("mount point %q climbs with '..'", target)
	}
	clean := path.Clean(target)
	if clean == "/" {
		return "", fmt.Errorf("mount point %q is the root", target)
	}
	return clean, nil
}

// check finds targets that exclude each other. The plan is sorted.
func (p mountPlan) check() error {
	seen := make(map[string]mountKind, len(p))
	for _, m := range p {
		if _, twice := seen[m.target]; twice {
			return fmt.Errorf("two mounts on %s", m.target)
		}
		for dir := path.Dir(m.target); dir != "/"; dir = path.Dir(dir) {
			if kind, ok := seen[dir]; ok && kind == fileMount {
				return fmt.Errorf("mount point %s lies below %s, which is a file", m.target, dir)
			}
		}
		seen[m.target] = m.kind
	}
	return nil
}
