package microsandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeOutput has write make the file at path, which appears when it is complete. What is
// there and no regular file, such as a pipe, is written to as it is.
func writeOutput(path string, write func(w io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return wrap(ErrIO, err)
		}
		return wrap(ErrIO, errors.Join(write(f), f.Close()))
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	part := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%x", filepath.Base(path), random))
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return wrap(ErrIO, err)
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return wrap(ErrIO, err)
}
