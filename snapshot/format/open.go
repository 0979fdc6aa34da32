package format

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Checkpoint is an open checkpoint whose content is what was written. It stays good when
// its directory is replaced or removed. Methods are safe for concurrent use, except with
// Close.
type Checkpoint struct {
	root    *os.Root
	path    string // of memory, when it was opened
	memory  *os.File
	base    *os.File // has what the layer does not have; nil if memory has all
	machine *machine
	offsets []int64 // of the regions in memory
	reading sync.Mutex
}

// Open opens the checkpoint at dir. The file with the state is always checked; the memory
// is read and checked unless its seal says that nobody has touched it. It fails with
// [fs.ErrNotExist] where there is none, with [ErrDamaged], [ErrVersion], [ErrBase], and
// with the cause of ctx.
func Open(ctx context.Context, dir string) (_ *Checkpoint, err error) {
	defer wrap(&err, "open", dir)
	path, err := filepath.Abs(filepath.Join(dir, memoryName))
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{root: root, path: path}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Checkpoint) open(ctx context.Context) error {
	b, err := sparse.ReadIn(c.root, machineName, maxMachine)
	if err != nil {
		return damage(err)
	}
	if c.machine, err = decode(b); err != nil {
		return err
	}
	size := int64(0)
	for _, r := range c.machine.header.Regions {
		c.offsets = append(c.offsets, size)
		size += int64(r.Size)
	}
	if c.memory, _, err = sparse.OpenIn(c.root, memoryName); err != nil {
		return damage(err)
	}
	s, err := stateOf(c.memory)
	if err != nil {
		return err
	}
	if s.size != uint64(size) {
		return fmt.Errorf("%w: its memory has %d bytes, not %d", ErrDamaged, s.size, size)
	}
	if b, err := sparse.ReadIn(c.root, sealName, maxSmall); err == nil && sealed(b, s, c.machine.digest) {
		if c.machine.layer != nil {
			c.base, err = c.machine.layer.open()
		}
		return err
	}
	return c.Verify(ctx)
}

// damage makes a file that is missing in a directory that is there, or is nothing that
// belongs there, a damage.
func damage(err error) error {
	if sparse.Unfit(err) {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return err
}

// maxSmall bounds the files "seal" and "prefetch", in bytes.
const maxSmall = 1 << 20

// Header says what the checkpoint is of. Its slices must not be changed.
func (c *Checkpoint) Header() Header { return c.machine.header }

// State is the state of processors and devices. It must not be changed.
func (c *Checkpoint) State() []byte { return c.machine.state }

// Offset is where region i of the header begins in memory, for Pieces, in bytes. Those are to be
// mapped privately.
func (c *Checkpoint) Offset(i int) int64 { return c.offsets[i] }

// Close closes the files; what was mapped stays.
func (c *Checkpoint) Close() error {
	err := c.root.Close()
	for _, f := range []*os.File{c.memory, c.base} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
