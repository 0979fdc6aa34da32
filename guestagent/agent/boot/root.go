//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Directories of the tiny root.
const (
	lowerDir = "/lower"
	upperDir = "/upper"
	newRoot  = "/newroot"
	sysDir   = "/sys"
)

// TinyRoot lists the directories that the agent's root image must hold.
var TinyRoot = [...]string{"dev", "proc", "sys", lowerDir[1:], upperDir[1:], newRoot[1:]}

// hostRoot is the virtio-fs tag of a root that is a directory of the host.
const hostRoot = "/dev/root"

// enterRoot mounts the sandbox's root and makes it this process's. upper is an open
// directory on the writable layer, -1 if there is none to look after.
func enterRoot(r *proto.BlockRoot) (upper int, err error) {
	upper = -1
	switch {
	case r == nil:
		err = mountHostRoot()
	case r.Kind == proto.RootDiskImage:
		upper, err = mountImage(r)
	default:
		if err = unix.Mount(r.Lower, lowerDir, "erofs", unix.MS_RDONLY, ""); err != nil {
			err = fail(KindImage, "mount the image "+r.Lower, err)
		} else {
			upper, err = mountOverlay(r.Upper)
		}
	}
	if err == nil {
		err = pivot()
	}
	return upper, err
}

func mountHostRoot() error {
	if err := unix.Mount(hostRoot, newRoot, "virtiofs", unix.MS_RELATIME, ""); err != nil {
		return fail(KindConfig, "the bootstrap names no block device for the root, and the host shares no directory for it", err)
	}
	return nil
}

// mountImage mounts a disk that holds the root. Over one that cannot be written lies
// memory for what the sandbox writes.
func mountImage(r *proto.BlockRoot) (upper int, err error) {
	err = mountDevice(r.Device, newRoot, r.FSType, 0, "")
	if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) {
		if err != nil {
			err = fail(KindImage, "mount the root", err)
		}
		return -1, err
	}
	if err := mountDevice(r.Device, lowerDir, r.FSType, unix.MS_RDONLY, ""); err != nil {
		return -1, fail(KindImage, "mount the read-only root", err)
	}
	return mountOverlay(&proto.Upper{Kind: proto.UpperTmpfs})
}

// mountOverlay stacks the writable layer u on what is mounted at lowerDir.
func mountOverlay(u *proto.Upper) (upper int, err error) {
	upper = -1
	if u.Kind == proto.UpperTmpfs {
		err = unix.Mount("tmpfs", upperDir, "tmpfs", unix.MS_RELATIME, tmpfsData(u.SizeMiB, 0o755))
	} else {
		err = mountUpper(u.Device, u.FSType)
	}
	if err != nil {
		return -1, fail(KindMount, fmt.Sprintf("mount the writable layer %s (%s)", u.Device, u.FSType), err)
	}
	if u.Kind == proto.UpperDevice {
		// Out of reach after the pivot, but to be made read-only at the end.
		if upper, err = unix.Open(upperDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return -1, fail(KindMount, "open the writable layer", err)
		}
	}
	if err := prepareUpper(); err != nil {
		return upper, fail(KindMount, "prepare the writable layer", err)
	}
	const options = "lowerdir=" + lowerDir + ",upperdir=" + upperDir + "/upper,workdir=" + upperDir + "/work"
	if err := unix.Mount("overlay", newRoot, "overlay", 0, options); err != nil {
		return upper, fail(KindMount, "mount the overlay", err)
	}
	return upper, nil
}

// lean keeps ext4 from reading the block bitmaps of all groups ahead as soon as it is
// mounted: of a new file system, one or two groups' are ever needed.
const lean = "no_prefetch_block_bitmaps"

// mountUpper mounts the device of the writable layer.
func mountUpper(device, fstype string) error {
	if fstype == "ext4" {
		err := unix.Mount(device, upperDir, fstype, 0, lean)
		if err == nil {
			readSingly(device)
		}
		if !errors.Is(err, unix.EINVAL) { // that is also: an old kernel
			return err
		}
	}
	return unix.Mount(device, upperDir, fstype, 0, "")
}

// readSingly keeps the ext4 on a device from reading the bitmaps of 32 groups when it first
// looks for a free block, which is when an overlay is mounted, by /sys/fs/ext4/*/mb_prefetch
// (Linux' Documentation/ABI/testing/sysfs-fs-ext4). Kernels that do not have it read them.
func readSingly(device string) {
	_ = mountOn("sysfs", sysDir, "sysfs", plainFlags|unix.MS_NODEV, "") // hidden by the new root
	_ = os.WriteFile(sysDir+"/fs/ext4/"+filepath.Base(device)+"/mb_prefetch", []byte("1"), 0)
}

// prepareUpper makes the directories that an overlay needs. The upper one, whose
// attributes are those of "/", gets them from the image.
func prepareUpper() error {
	const top = upperDir + "/upper"
	err := unix.Mkdir(top, 0o755)
	if err == nil {
		var root unix.Stat_t
		if err = unix.Stat(lowerDir, &root); err == nil {
			err = errors.Join(unix.Chown(top, int(root.Uid), int(root.Gid)), unix.Chmod(top, root.Mode&0o7777))
		}
	}
	if err == nil || errors.Is(err, unix.EEXIST) {
		err = unix.Mkdir(upperDir+"/work", 0o755)
	}
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	return err
}

// tmpfsData are the mount options of a tmpfs.
func tmpfsData(sizeMiB *uint32, mode uint32) string {
	data := fmt.Sprintf("mode=%o", mode)
	if sizeMiB != nil {
		data = fmt.Sprintf("size=%d,%s", uint64(*sizeMiB)<<20, data)
	}
	return data
}

// pivot makes newRoot the root. The first root of a kernel cannot be pivoted away, so the
// new one is moved over it.
func pivot() error {
	err := unix.Chdir(newRoot)
	if err == nil {
		err = unix.Mount(".", "/", "", unix.MS_MOVE, "")
	}
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = unix.Chdir("/")
	}
	if err != nil {
		return fail(KindMount, "enter the new root", err)
	}
	return nil
}

// mountDevice mounts a block device; without a type it tries all that the kernel knows.
func mountDevice(device, target, fstype string, flags uintptr, data string) error {
	if fstype != "" {
		if err := unix.Mount(device, target, fstype, flags, data); err != nil {
			return fmt.Errorf("%s as %s on %s: %w", device, fstype, target, err)
		}
		return nil
	}
	types, err := deviceTypes()
	if err != nil {
		return err
	}
	for _, t := range types {
		err := unix.Mount(device, target, t, flags, dataFor(t, flags, data))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EUCLEAN):
			continue // not that type
		}
		return fmt.Errorf("%s as %s on %s: %w", device, t, target, err)
	}
	return fmt.Errorf("%s on %s: no file system that this kernel knows (%s); name its type", device, target, strings.Join(types, ", "))
}

// dataFor keeps ext4 from replaying its journal on a device that is not to be written.
func dataFor(fstype string, flags uintptr, data string) string {
	if fstype == "ext4" && flags&unix.MS_RDONLY != 0 && data == "" {
		return "noload"
	}
	return data
}

const kernelTypes = "/proc/filesystems"

// deviceTypes lists the file systems on block devices that the kernel knows.
func deviceTypes() ([]string, error) {
	text, err := os.ReadFile(kernelTypes)
	if errors.Is(err, unix.ENOENT) {
		// Still in the tiny root.
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return nil, fmt.Errorf("mount /proc: %w", err)
		}
		text, err = os.ReadFile(kernelTypes)
		err = errors.Join(err, unix.Unmount("/proc", 0))
	}
	if err != nil {
		return nil, err
	}
	return parseTypes(string(text)), nil
}

// parseTypes reads lines of "[nodev]<tab>type". ext4 comes first: it mounts what ext2 and
// ext3 would, and these complain to the console about an ext4.
func parseTypes(text string) []string {
	var types []string
	for line := range strings.Lines(text) {
		flag, name, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		if ok && flag == "" && name != "" {
			types = append(types, name)
		}
	}
	slices.SortStableFunc(types, func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == "ext4":
			return -1
		case b == "ext4":
			return 1
		}
		return 0
	})
	return types
}
