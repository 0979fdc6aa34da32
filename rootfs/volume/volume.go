package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/rootfs/ext4"
)

// Create makes the files of the volume, a directory if diskMiB is 0 and else a disk image
// of that many MiB, all of it or nothing. A catalogue that cannot list the volume then
// calls Delete, else Listed. Errors wrap ErrForeign, ErrOptions for a size that no disk
// can have, or are those of the file system.
func (l *Lock) Create(diskMiB uint32) error {
	if err := l.clear(); err != nil {
		return err
	}
	part := l.beside("new")
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	err := l.publish(part, diskMiB)
	if err != nil {
		err = errors.Join(err, os.RemoveAll(part))
	}
	return err
}

// beside is the path of what is not the volume yet, or not any more.
func (l *Lock) beside(what string) string {
	return filepath.Join(string(l.folder), "."+l.name+"~"+what) // no name has a tilde
}

// publish makes the files at part and moves them to where they belong.
func (l *Lock) publish(part string, diskMiB uint32) error {
	if err := os.Mkdir(part, 0o755); err != nil {
		return err
	}
	if diskMiB > 0 {
		if err := makeDisk(filepath.Join(part, "disk.raw"), diskMiB); err != nil {
			return err
		}
	}
	if err := l.mark(true); err != nil {
		return err
	}
	if err := os.Rename(part, l.folder.Path(l.name)); err != nil {
		return err
	}
	return syncDir(string(l.folder))
}

func makeDisk(path string, mib uint32) error {
	err := ext4.Create(path, ext4.Options{Size: int64(mib) << 20, Sync: true})
	if errors.Is(err, ext4.ErrOptions) {
		err = fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return err
}

// clear removes what a process left that was killed while it made or removed the volume.
func (l *Lock) clear() error {
	path := l.folder.Path(l.name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	marked, err := l.marked()
	switch {
	case err != nil:
		return err
	case !marked:
		return fmt.Errorf("%w: move %s away", ErrForeign, path)
	}
	return l.Delete()
}

// Delete removes the files of a volume that no catalogue lists, if there are any.
func (l *Lock) Delete() error {
	old := l.beside("old") // it must not be there in part under its own name
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(l.folder.Path(l.name), old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	return l.mark(false)
}

// Unlist says that a catalogue is about to forget the volume. Delete follows; until then,
// Listed takes it back.
func (l *Lock) Unlist() error { return l.mark(true) }

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
