//go:build linux

package boot

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// essential is a file system that every guest has.
type essential struct {
	target, fstype string
	flags          uintptr
}

const plainFlags = unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_RELATIME

var essentials = [...]essential{
	{"/dev", "devtmpfs", unix.MS_RELATIME},
	{"/proc", "proc", plainFlags | unix.MS_NODEV},
	{"/sys", "sysfs", plainFlags | unix.MS_NODEV},
	{"/sys/fs/cgroup", "cgroup2", plainFlags | unix.MS_NODEV},
	{"/dev/pts", "devpts", plainFlags},
	{"/dev/shm", "tmpfs", plainFlags},
}

// mountEssentials mounts the kernel's own file systems in the new root.
func mountEssentials() error {
	for _, e := range essentials {
		if err := mountOn(e.fstype, e.target, e.fstype, e.flags, ""); err != nil {
			return fail(KindMount, "mount "+e.fstype+" on "+e.target, err)
		}
	}
	if err := unix.Symlink("/proc/self/fd", "/dev/fd"); err != nil && !errors.Is(err, unix.EEXIST) {
		return fail(KindMount, "make /dev/fd", err)
	}
	return nil
}

// mountOn mounts, and makes the mount point if it is missing. Something that is mounted
// there already is fine.
func mountOn(source, target, fstype string, flags uintptr, data string) error {
	err := unix.Mount(source, target, fstype, flags, data)
	if errors.Is(err, unix.ENOENT) {
		if err := unix.Mkdir(target, 0o755); err != nil {
			return err
		}
		err = unix.Mount(source, target, fstype, flags, data)
	}
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}

const (
	runtimeDir = "/.msb"
	runtimeTag = "msb_runtime"
	scriptsDir = runtimeDir + "/scripts"
)

// mountRuntime mounts the host's runtime directory, or memory in its place.
func mountRuntime() (shared bool, err error) {
	if hasShares() {
		err := mountOn(runtimeTag, runtimeDir, "virtiofs", 0, "")
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, unix.EINVAL) { // that is: no share of this name
			return false, fail(KindMount, "mount the runtime directory", err)
		}
	}
	if err := mountOn("tmpfs", runtimeDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RELATIME, "mode=755,size=16m"); err != nil {
		return false, fail(KindMount, "mount "+runtimeDir, err)
	}
	if err := unix.Mkdir(scriptsDir, 0o755); err != nil {
		return false, fail(KindMount, "make "+scriptsDir, err)
	}
	return false, nil
}

// hasShares reports whether there is any virtio-fs device. To ask for a share that is
// not there would leave a message in the kernel's log.
func hasShares() bool {
	// Not os.Open, which would start the poller before anything needs it.
	fd, err := unix.Open("/sys/bus/virtio/drivers/virtiofs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // only read
	buf := make([]byte, 4096)
	n, err := unix.ReadDirent(fd, buf)
	if err != nil {
		return false
	}
	_, _, names := unix.ParseDirent(buf[:n], -1, nil)
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "virtio") })
}
