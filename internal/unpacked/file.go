package unpacked

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors of this package. Messages name the path and say what to do.
var (
	// ErrUnsafe says that a folder, or a file in it, is not the user's alone.
	ErrUnsafe = errors.New("the cache is not safe to use")
	// ErrDamaged says that a file of the user's does not hold what was stored.
	ErrDamaged = errors.New("damaged cache file")
)

// File is a file whose name carries the digest of its contents, in a folder.
type File struct {
	Dir, Name string
	Size      int64 // bytes
}

// Path is where the file is.
func (f File) Path() string { return filepath.Join(f.Dir, f.Name) }

// Open opens the file for reading. Its contents were checked before it got its name and
// nobody else can write to it, so only owner, mode and size are checked again. Errors
// wrap fs.ErrNotExist, ErrDamaged, ErrUnsafe or are the system's.
func (f File) Open() (*os.File, error) {
	if err := f.checkDir(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(f.Path(), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link; remove it", ErrUnsafe, f.Path())
	}
	if err != nil {
		return nil, err
	}
	if err := f.check(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (f File) check(file *os.File) error {
	st, err := file.Stat()
	if err != nil {
		return err
	}
	switch {
	case !st.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file; remove it", ErrUnsafe, f.Path())
	case !ownedBy(st, os.Geteuid()):
		return fmt.Errorf("%w: %s belongs to another user; remove it", ErrUnsafe, f.Path())
	case st.Mode().Perm() != 0o600:
		return fmt.Errorf("%w: %s has mode %#o, not 0600; remove it", ErrUnsafe, f.Path(), st.Mode().Perm())
	case st.Size() != f.Size:
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrDamaged, f.Path(), st.Size(), f.Size)
	}
	return nil
}

// checkDir refuses a folder in which others could swap files. A missing one is fine.
func (f File) checkDir() error {
	st, err := os.Stat(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case !st.IsDir():
		return fmt.Errorf("%w: %s is not a folder", ErrUnsafe, f.Dir)
	case !ownedBy(st, os.Geteuid()) && !ownedBy(st, 0):
		return fmt.Errorf("%w: %s belongs to another user; choose a folder of yours", ErrUnsafe, f.Dir)
	case st.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%w: everybody may write to %s; remove that permission", ErrUnsafe, f.Dir)
	}
	return nil
}

// Store writes the file, and its folder if need be, under a temporary name, makes it
// durable and renames it, so that neither a crash nor another process doing the same
// leaves a partial one. It has mode 0600.
func (f File) Store(data []byte) error {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(f.Dir, "."+f.Name+"-*.tmp") // mode 0600, exclusive
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), f.Path())
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return syncDir(f.Dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func ownedBy(st fs.FileInfo, uid int) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int64(sys.Uid) == int64(uid)
}
