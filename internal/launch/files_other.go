//go:build !linux

package launch

import "os"

// anonymousFile is a temporary file of mode 0600 whose name is gone before anything is
// written.
func anonymousFile(name string) (*os.File, error) {
	f, err := os.CreateTemp("", name)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
