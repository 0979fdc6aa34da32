package journal

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// RotateSize is the size beyond which exec.log and runtime.log are not written, bytes.
const RotateSize = 10 << 20

// generations is how many rotated files are kept, named .1 (newest) to .4.
const generations = 4

// File is an append-only file that rotates. It is safe for concurrent use; each Write is
// one line or several, never a part of one.
type File struct {
	path    string
	limit   int64
	rotated func(*os.File) error

	mu   sync.Mutex
	file *os.File // nil after Close; protected by mu
	size int64    // protected by mu
}

// Open opens or creates the file at path. rotated, if not nil, is called with each new
// file that rotation opens.
func Open(path string, rotated func(*os.File) error) (*File, error) {
	f := &File{path: path, limit: RotateSize, rotated: rotated}
	if err := f.reopen(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) reopen() error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	st, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, st.Size()
	return nil
}

// Write appends p with one write, after rotating if the file would grow beyond its limit.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return 0, os.ErrClosed
	}
	if f.size > 0 && f.size+int64(len(p)) > f.limit {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, err
}

// rotate renames the files and opens a new one. It keeps writing to the old one if that
// fails.
func (f *File) rotate() error {
	name := func(n int) string { return f.path + "." + strconv.Itoa(n) }
	for n := generations; n > 1; n-- {
		if err := os.Rename(name(n-1), name(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("rotate: %w", err)
		}
	}
	if err := os.Rename(f.path, name(1)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("rotate: %w", err)
	}
	old := f.file
	if err := f.reopen(); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	var err error
	if f.rotated != nil {
		err = f.rotated(f.file)
	}
	return errors.Join(err, old.Close())
}

// Fd calls use with the open file, which stays open meanwhile.
func (f *File) Fd(use func(*os.File) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return os.ErrClosed
	}
	return use(f.file)
}

// Close closes the file. It is idempotent.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
