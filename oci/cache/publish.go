package cache

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newSuffix marks files in tmp that are not published yet.
const newSuffix = ".new"

// publish makes path hold what write writes, all of it or nothing.
func (c *Cache) publish(path string, write func(w io.Writer) error) error {
	return c.publishFile(path, func(f *os.File) error { return write(f) })
}

// publishFile makes path a file that fill fills, complete or not at all: temporary file
// in the same file system, fsync, rename, fsync of the directory.
func (c *Cache) publishFile(path string, fill func(f *os.File) error) (err error) {
	f, err := os.CreateTemp(c.tmp(), filepath.Base(path)+".*"+newSuffix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	// While it is locked, sweep leaves it alone.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	// Published: from here on nothing is to be removed.
	return errors.Join(f.Close(), syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
