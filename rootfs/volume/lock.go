package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/filelock"
)

// Lock keeps all others from changing the volume of its name.
type Lock struct {
	folder Folder
	name   string
	file   *os.File
}

// Lock waits for the lock of a name, whether there is such a volume or not. Errors wrap
// ErrName, the end of the context, or are those of the file system. Whoever needs several
// takes them in the order of their names.
func (f Folder) Lock(ctx context.Context, name string) (*Lock, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	dir := filepath.Join(string(f), ".locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, file); err != nil {
		return nil, errors.Join(fmt.Errorf("volume %s: %w", name, err), file.Close())
	}
	return &Lock{folder: f, name: name, file: file}, nil
}

// Release gives the lock back.
func (l *Lock) Release() { _ = l.file.Close() } // which cannot fail for a file without buffers

// unlisted is what a lock file says while files of the volume may exist that no catalogue
// lists.
const unlisted = "this volume is being made or removed\n"

// mark writes or clears unlisted, durably.
func (l *Lock) mark(on bool) error {
	if on {
		if _, err := l.file.WriteAt([]byte(unlisted), 0); err != nil {
			return err
		}
		return l.file.Sync()
	}
	return l.file.Truncate(0)
}

func (l *Lock) marked() (bool, error) {
	info, err := l.file.Stat()
	return err == nil && info.Size() > 0, err
}

// Listed says that a catalogue has the volume, so that its files stay.
func (l *Lock) Listed() error {
	marked, err := l.marked()
	if err == nil && marked {
		err = l.mark(false)
	}
	return err
}
