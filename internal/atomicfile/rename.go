package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Rename gives the file or directory from the name to, on the same file system, durably.
// What had the name is an error that wraps [fs.ErrExist], unless replace is set: then the
// two are exchanged in one step, and the caller removes what is at from afterwards.
func Rename(from, to string, replace bool) error {
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
	return syncDir(filepath.Dir(to))
}
