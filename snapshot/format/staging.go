package format

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/internal/filelock"
)

// Names of the files of a checkpoint.
const (
	machineName  = "machine"
	memoryName   = "memory"
	sealName     = "seal"
	prefetchName = "prefetch"
)

// stagingSuffix ends the names of directories in which checkpoints are made.
const stagingSuffix = ".checkpoint"

// stage makes a locked directory beside dir. Its lock goes with the process, and then
// the next stage of dir removes it.
func stage(dir string) (path string, lock *os.File, err error) {
	parent, prefix := filepath.Dir(dir), "."+filepath.Base(dir)+"."
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, err
	}
	if err := sweep(parent, prefix); err != nil {
		return "", nil, err
	}
	for {
		path, err := os.MkdirTemp(parent, prefix+"*"+stagingSuffix)
		if err != nil {
			return "", nil, err
		}
		lock, err := lockDir(path)
		if err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(path))
		}
		if lock != nil {
			return path, lock, nil
		}
		// Somebody swept it before it was locked.
	}
}

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
func sweep(parent, prefix string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), stagingSuffix) || !ours(path) {
			continue
		}
		lock, err := lockDir(path)
		if err != nil {
			return err
		}
		if lock != nil {
			if err := errors.Join(os.RemoveAll(path), lock.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

// ours reports that a directory holds nothing but parts of a checkpoint.
func ours(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !isPart(e.Name()) })
}

// isPart reports the name of a file of a checkpoint, or of one that was about to become
// it: a file that is replaced has ".NAME.*" for a while.
func isPart(name string) bool {
	if hidden, is := strings.CutPrefix(name, "."); is {
		name, _, _ = strings.Cut(hidden, ".")
	}
	return slices.Contains([]string{machineName, memoryName, sealName, prefetchName}, name)
}
