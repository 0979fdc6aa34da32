package checkpoint

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Names in the directory.
const (
	manifestName = "manifest.json"
	machineName  = "machine"
	disksName    = "disks"
)

// MachineDir is the checkpoint of processors, devices and memory in the directory dir, which
// package snapshot/format opens.
func MachineDir(dir string) string { return filepath.Join(dir, machineName) }

// Open reads the manifest of the checkpoint at dir. It fails with [fs.ErrNotExist] where
// there is no directory, with [ErrDamaged] and [ErrVersion]. Disks may have been taken out
// of the directory; see [Manifest.Verify].
func Open(dir string) (_ *Manifest, err error) {
	defer wrap(&err, "open", dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	b, err := sparse.ReadIn(root, manifestName, maxManifest)
	if err != nil {
		return nil, damage(err)
	}
	return decode(b)
}

// Verify reads the copies of the disks in the checkpoint at dir and compares them with their
// checksums. It fails with [ErrDamaged] and the cause of ctx.
func (m *Manifest) Verify(ctx context.Context, dir string) (err error) {
	defer wrap(&err, "verify", dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for i := range m.Disks {
		if err := m.Disks[i].verify(ctx, root); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) verify(ctx context.Context, root *os.Root) error {
	return d.verifyFile(ctx, root, filepath.FromSlash(d.File))
}

// verifyFile compares a file with the checksum.
func (d *Disk) verifyFile(ctx context.Context, root *os.Root, name string) error {
	f, size, err := sparse.OpenIn(root, name)
	if err != nil {
		return damage(err)
	}
	defer func() { _ = f.Close() }()
	if size != d.Size {
		return fmt.Errorf("%w: its %s has %d bytes, not %d", ErrDamaged, name, size, d.Size)
	}
	sum, err := sumOf(ctx, f, size)
	if err != nil {
		return err
	}
	if sum != d.Sum {
		return fmt.Errorf("%w: its %s is not what was saved", ErrDamaged, name)
	}
	return nil
}

// VerifyAt is Verify of one disk whose copy was taken out of the checkpoint to path.
func (d *Disk) VerifyAt(ctx context.Context, path string) (err error) {
	defer wrap(&err, "verify disk of", path)
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return d.verifyFile(ctx, root, filepath.Base(path))
}

// damage makes a file that is missing, or is nothing that belongs there, a damage.
func damage(err error) error {
	if sparse.Unfit(err) {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return err
}

// wrap adds what was done, and to what, to an error.
func wrap(err *error, verb, dir string) {
	if *err != nil {
		*err = fmt.Errorf("%s checkpoint %s: %w", verb, dir, *err)
	}
}
