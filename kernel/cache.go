package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/unpacked"
)

// openCached maps the cached kernel, whose ELF outline it checks again.
func openCached(c unpacked.File) (*Image, error) {
	f, err := c.Open()
	if err != nil {
		return nil, fmt.Errorf("cached kernel: %w", err)
	}
	mem, err := mapFile(f, c.Size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map %s: %w", f.Name(), err), f.Close())
	}
	img, err := embeddedImage(mem)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", unpacked.ErrDamaged, f.Name(), err), unix.Munmap(mem), f.Close())
	}
	img.file = f
	return img, nil
}
