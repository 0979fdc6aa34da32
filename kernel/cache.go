package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// cache is one file, whose name carries the digest of its contents, in a folder.
type cache struct {
	dir, name string
	size      int64
}

// errDamaged says that a file of ours does not hold what we wrote.
var errDamaged = errors.New("damaged cache file")

// open maps the cached kernel. The contents were checked before the file got its
// name and nobody else can write to it, so only owner, mode, size and ELF outline
// are checked again. Errors: fs.ErrNotExist, errDamaged, ErrCache or others.
func (c cache) open() (*Image, error) {
	if err := c.checkDir(); err != nil {
		return nil, err
	}
	path := filepath.Join(c.dir, c.name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link; remove it", ErrCache, path)
	}
	if err != nil {
		return nil, fmt.Errorf("cached kernel: %w", err)
	}
	img, err := c.mapChecked(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	img.file = f
	return img, nil
}

func (c cache) mapChecked(f *os.File) (*Image, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cached kernel: %w", err)
	}
	switch {
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a regular file; remove it", ErrCache, f.Name())
	case !ownedBy(st, os.Geteuid()):
		return nil, fmt.Errorf("%w: %s belongs to another user; remove it", ErrCache, f.Name())
	case st.Mode().Perm() != 0o600:
		return nil, fmt.Errorf("%w: %s has mode %#o, not 0600; remove it", ErrCache, f.Name(), st.Mode().Perm())
	case st.Size() != c.size:
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d", errDamaged, f.Name(), st.Size(), c.size)
	}
	mem, err := mapFile(f, c.size)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	img, err := embeddedImage(mem)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", errDamaged, f.Name(), err), unix.Munmap(mem))
	}
	return img, nil
}

// checkDir refuses a folder in which others could swap files. A missing one is fine.
func (c cache) checkDir() error {
	st, err := os.Stat(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	switch {
	case !st.IsDir():
		return fmt.Errorf("%w: %s is not a folder", ErrCache, c.dir)
	case !ownedBy(st, os.Geteuid()) && !ownedBy(st, 0):
		return fmt.Errorf("%w: %s belongs to another user; choose a folder of yours", ErrCache, c.dir)
	case st.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%w: everybody may write to %s; remove that permission", ErrCache, c.dir)
	}
	return nil
}

// store writes the file under a temporary name, makes it durable and renames it, so
// that neither a crash nor another process doing the same leaves a partial one.
func (c cache) store(data []byte) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	f, err := os.CreateTemp(c.dir, ".kernel-*.tmp") // mode 0600, exclusive
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, c.name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("kernel cache: %w", err), os.Remove(f.Name()))
	}
	return syncDir(c.dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	return nil
}

func ownedBy(st fs.FileInfo, uid int) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int64(sys.Uid) == int64(uid)
}
