package snapshot

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/gomsb/gomsb/internal/atomicfile"
)

// publish gives the directory from the name to, durably. If replace is set and to exists,
// the two are exchanged in one step.
func publish(from, to string, replace bool) error {
	err := atomicfile.Rename(from, to, replace)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, to)
	}
	return err
}
