package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/rootfs/passthrough"
)

// Tags of the shares that do not come from mount strings.
const (
	rootTag    = "/dev/root"   // the root, if that is a directory of the host
	runtimeTag = "msb_runtime" // what host and guest tell each other in files

	// runtimeQuota is how much the guest may add to the runtime directory.
	runtimeQuota = 16 << 20
)

// planShares lists what the guest may mount from the host.
func planShares(c *launch.Config) ([]Share, error) {
	var list []Share
	if c.Rootfs.Path != nil {
		list = append(list, Share{Tag: rootTag, Path: *c.Rootfs.Path, FollowSymlinks: c.Rootfs.FollowRootSymlinks, Stat: "strict", Perms: "private", Root: true})
	}
	if c.RuntimeDir != "" {
		list = append(list, Share{Tag: runtimeTag, Path: c.RuntimeDir, FollowSymlinks: true, Perms: "private", Quota: runtimeQuota})
	}
	for _, s := range c.Mounts {
		m, err := launch.ParseMount(s)
		if err != nil {
			return nil, fail(launch.StageMount, err)
		}
		list = append(list, shareOf(m))
	}
	for _, f := range c.FileMounts {
		share, err := fileShare(f)
		if err != nil {
			return nil, fail(launch.StageMount, err)
		}
		list = append(list, share)
	}
	seen := make(map[string]bool)
	for _, s := range list {
		if seen[s.Tag] {
			return nil, fail(launch.StageMount, fmt.Errorf("two shares have the tag %q", s.Tag))
		}
		seen[s.Tag] = true
	}
	return list, nil
}

func shareOf(m launch.Mount) Share {
	s := Share{
		Tag: m.Tag, Path: m.Host, FollowSymlinks: m.FollowRootSymlinks, ReadOnly: m.ReadOnly,
		Stat: m.StatVirt, Perms: m.HostPerms, MapOwner: true, UID: m.UID, GID: m.GID,
	}
	if m.QuotaMiB != nil {
		s.Quota = int64(min(*m.QuotaMiB, 1<<40)) << 20
		if s.Quota == 0 {
			s.Quota = passthrough.NoGrowth
		}
	}
	return s
}

// fileShare shares one file: the host path is the file itself, or a directory that has
// it.
func fileShare(f launch.FileMount) (Share, error) {
	m, err := launch.ParseMount(f.Mount)
	if err != nil {
		return Share{}, err
	}
	s := shareOf(m)
	if f.Filename == "" || f.Filename == "." || f.Filename == ".." || strings.ContainsAny(f.Filename, "/\x00") {
		return s, fmt.Errorf("share %s: %q is no file name", m.Host, f.Filename)
	}
	s.Only = f.Filename
	path := m.Host
	if m.FollowRootSymlinks {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return s, fmt.Errorf("share %s: %w", m.Host, err)
		}
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return s, fmt.Errorf("share %s: %w", m.Host, err)
	case info.IsDir():
		s.Path = path
	case filepath.Base(path) != f.Filename:
		return s, fmt.Errorf("share %s: the guest is told to look for %q there", m.Host, f.Filename)
	default:
		s.Path = filepath.Dir(path)
	}
	return s, nil
}
