package volume

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Errors of this package.
var (
	// ErrName reports a name that no volume can have.
	ErrName = errors.New("volume name")
	// ErrOptions reports options that do not go together.
	ErrOptions = errors.New("volume options")
	// ErrForeign reports files in the place of a volume that no volume put there.
	ErrForeign = errors.New("files that belong to no volume are in the way")
)

// maxName leaves room in file names for what is added to a volume's.
const maxName = 240

// CheckName reports whether a volume may be called name: ASCII letters, digits, dots,
// hyphens and underscores, beginning with a letter or digit. Errors wrap ErrName.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w must not be empty", ErrName)
	case len(name) > maxName:
		return fmt.Errorf("%w must be at most %d characters: got %d", ErrName, maxName, len(name))
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || c != '.' && c != '-' && c != '_') {
			return fmt.Errorf("%w must start with an alphanumeric character and contain only alphanumeric characters, dots, hyphens, and underscores: %s", ErrName, name)
		}
	}
	return nil
}

// Folder is the path of the folder of all volumes.
type Folder string

// Path is the directory of the volume NAME. The name must be valid.
func (f Folder) Path(name string) string { return filepath.Join(string(f), name) }

// Disk is the image of the disk volume NAME. The name must be valid.
func (f Folder) Disk(name string) string { return filepath.Join(string(f), name, "disk.raw") }
