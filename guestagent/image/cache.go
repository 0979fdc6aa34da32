package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrCache says that the cache folder, or the file in it, is not ours alone. The message
// says what to do.
var ErrCache = errors.New("guest agent cache is not safe")

// errDamaged says that a file of ours does not hold what we wrote.
var errDamaged = errors.New("damaged cache file")

// cache is one file, whose name carries the digest of its contents, in a folder.
type cache struct {
	dir, name string
	size      int64
}

func (c cache) path() string { return filepath.Join(c.dir, c.name) }

// check finds out whether the file can be used. Its contents were checked before it got
// its name and nobody else can write to it, so only owner, mode and size are checked
// again. Errors: fs.ErrNotExist, errDamaged, ErrCache or others.
func (c cache) check() error {
	if err := c.checkDir(); err != nil {
		return err
	}
	path := c.path()
	st, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("cached guest agent: %w", err)
	}
	switch {
	case st.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link; remove it", ErrCache, path)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file; remove it", ErrCache, path)
	case !ownedBy(st, os.Geteuid()):
		return fmt.Errorf("%w: %s belongs to another user; remove it", ErrCache, path)
	case st.Mode().Perm() != 0o600:
		return fmt.Errorf("%w: %s has mode %#o, not 0600; remove it", ErrCache, path, st.Mode().Perm())
	case st.Size() != c.size:
		return fmt.Errorf("%w: %s has %d bytes, not %d", errDamaged, path, st.Size(), c.size)
	}
	return nil
}

// checkDir refuses a folder in which others could swap files. A missing one is fine.
func (c cache) checkDir() error {
	st, err := os.Stat(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("guest agent cache: %w", err)
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

// store writes the file under a temporary name, makes it durable and renames it, so that
// neither a crash nor another process doing the same leaves a partial one.
func (c cache) store(data []byte) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("guest agent cache: %w", err)
	}
	f, err := os.CreateTemp(c.dir, ".agent-*.tmp") // mode 0600, exclusive
	if err != nil {
		return fmt.Errorf("guest agent cache: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.path())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("guest agent cache: %w", err), os.Remove(f.Name()))
	}
	d, err := os.Open(c.dir)
	if err != nil {
		return fmt.Errorf("guest agent cache: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("guest agent cache: %w", err)
	}
	return nil
}

func ownedBy(st fs.FileInfo, uid int) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int64(sys.Uid) == int64(uid)
}
