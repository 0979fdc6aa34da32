package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"syscall"
)

// Used is how much the files of the volume NAME take: of a directory the sum of their
// lengths, by which quotas go, and of a disk what its image has of the host's disk, bytes.
// A volume that sandboxes change meanwhile may be anything in between. The name must be
// valid. Errors wrap ErrDeep or are those of the file system.
func (f Folder) Used(name string, disk bool) (int64, error) {
	if disk {
		info, err := os.Stat(f.Disk(name))
		if err != nil {
			return 0, err
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512, nil
	}
	root, err := os.OpenRoot(f.Path(name)) // what a guest puts there leads nowhere else
	if err != nil {
		return 0, err
	}
	c := counter{linked: map[[2]uint64]bool{}}
	err = c.directory(root, 0)
	return c.total, err
}

// ErrDeep reports directories that are nested too deep to be counted.
var ErrDeep = errors.New("directories are nested too deep to be counted")

// maxDepth is that of the count in rootfs/passthrough. A level takes two descriptors.
const maxDepth = 128

// counter adds up the lengths of files, those with several names once.
type counter struct {
	linked map[[2]uint64]bool // by device and inode
	total  int64
}

// directory counts what is in an open directory, which it closes.
func (c *counter) directory(root *os.Root, depth int) error {
	defer func() { _ = root.Close() }()
	dir, err := root.Open(".")
	if err != nil {
		return skipped(err)
	}
	defer func() { _ = dir.Close() }()
	for {
		entries, err := dir.ReadDir(256)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := c.entry(root, e.Name(), depth); err != nil {
				return err
			}
		}
	}
}

func (c *counter) entry(root *os.Root, name string, depth int) error {
	info, err := root.Lstat(name)
	switch {
	case err != nil:
		return skipped(err)
	case info.Mode().IsRegular():
		c.file(info)
		return nil
	case !info.IsDir():
		return nil
	case depth == maxDepth:
		return fmt.Errorf("%w: more than %d levels below %s", ErrDeep, maxDepth, root.Name())
	}
	child, err := root.OpenRoot(name)
	if err != nil {
		return skipped(err)
	}
	return c.directory(child, depth+1)
}

func (c *counter) file(info fs.FileInfo) {
	st := info.Sys().(*syscall.Stat_t)
	if st.Nlink > 1 {
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if c.linked[id] {
			return
		}
		c.linked[id] = true
	}
	c.total += min(info.Size(), math.MaxInt64-c.total) // lengths can be anything
}

// skipped drops the errors of what is gone meanwhile, is no directory any more, or cannot
// be filled by us either.
func skipped(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}
