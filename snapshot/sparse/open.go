package sparse

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OpenIn opens a regular file of a directory whose content is not to be trusted, and tells
// its size in bytes. A link in its place is not followed, and a pipe does not block: they
// are [ErrNotRegular].
func OpenIn(root *os.Root, name string) (*os.File, int64, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: %w", name, ErrNotRegular)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err = f.Stat() // it may be another by now
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, ErrNotRegular)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// ReadIn reads a whole file that OpenIn opens. One of more than limit bytes is
// [ErrTooLarge], and one that becomes shorter meanwhile [ErrChanged].
func ReadIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, size, err := OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes: %w", name, size, ErrTooLarge)
	}
	b := make([]byte, size)
	switch _, err := io.ReadFull(f, b); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%s: %w", name, ErrChanged)
	case err != nil:
		return nil, err
	}
	return b, nil
}

// Unfit reports that an error of OpenIn or ReadIn is about what the directory holds: nothing
// of that name, or nothing of that kind. Others are the system's.
func Unfit(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotRegular) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrChanged)
}
