package sparse

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Next returns the first run of data of f at or after offset and before size. There is
// none if the extent's length is 0. It moves the file's position.
func Next(f *os.File, offset, size int64) (Extent, error) {
	if offset >= size {
		return Extent{}, nil
	}
	start, err := f.Seek(offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && start >= size {
		return Extent{}, nil
	}
	if err != nil {
		return Extent{}, seekError(f, err)
	}
	end, err := f.Seek(start, unix.SEEK_HOLE)
	if errors.Is(err, unix.ENXIO) {
		return Extent{}, fmt.Errorf("%s: %w", f.Name(), ErrChanged)
	}
	if err != nil {
		return Extent{}, seekError(f, err)
	}
	return Extent{Offset: start, Length: min(end, size) - start}, nil
}

func seekError(f *os.File, err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: %w", f.Name(), ErrUnsupported)
	}
	return err
}
