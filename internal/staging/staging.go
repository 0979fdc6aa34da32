package staging

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/internal/filelock"
)

// Dir is a directory in the making. It ends in Remove, also when it has got its name.
type Dir struct {
	Path string
	lock *os.File // goes with the process
}

// Make makes a locked directory beside target, whose name begins with a dot and the name of
// target and ends in suffix; the directory of target is made if missing. Before that it
// removes what dead processes left there for target, as far as ours says that it holds
// nothing else.
func Make(target, suffix string, ours func(path string) bool) (*Dir, error) {
	parent, prefix := filepath.Dir(target), "."+filepath.Base(target)+"."
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	if err := sweep(parent, prefix, suffix, ours); err != nil {
		return nil, err
	}
	for {
		path, err := os.MkdirTemp(parent, prefix+"*"+suffix)
		if err != nil {
			return nil, err
		}
		lock, err := lockDir(path)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(path))
		}
		if lock != nil {
			return &Dir{Path: path, lock: lock}, nil
		}
		// Somebody swept it before it was locked.
	}
}

// Remove removes what is at Path and gives the lock up.
func (d *Dir) Remove() error { return errors.Join(os.RemoveAll(d.Path), d.lock.Close()) }

// lockDir locks a directory. It returns nil if another has it or has removed it.
func lockDir(path string) (*os.File, error) {
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	locked, err := filelock.Try(d)
	if err != nil || !locked {
		return nil, errors.Join(err, d.Close())
	}
	opened, err := d.Stat()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if named, err := os.Lstat(path); err != nil || !os.SameFile(opened, named) {
		return nil, d.Close()
	}
	return d, nil
}

// sweep removes what dead processes left.
func sweep(parent, prefix, suffix string, ours func(path string) bool) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), suffix) || !ours(path) {
			continue
		}
		lock, err := lockDir(path)
		if err != nil {
			return err
		}
		if lock != nil {
			if err := (&Dir{Path: path, lock: lock}).Remove(); err != nil {
				return err
			}
		}
	}
	return nil
}
