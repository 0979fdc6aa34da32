package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Rename is Move that is durable.
func Rename(from, to string, replace bool) error {
	if err := Move(from, to, replace); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// Move gives the file or directory from the name to, on the same file system. What had the
// name is an error that wraps [fs.ErrExist], unless replace is set: then the two are exchanged in
// one step, and the caller removes what is at from afterwards.
func Move(from, to string, replace bool) error {
	exchange := false
	if replace {
		_, err := os.Lstat(to)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		exchange = err == nil
	}
	if err := rename(from, to, exchange); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
