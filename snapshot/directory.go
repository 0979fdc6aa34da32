package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// List opens every snapshot in a directory, in the order of names. Names with a leading
// dot are passed over; what does not open is reported to bad, which may be nil. A missing
// directory is empty.
func List(dir string, bad func(path string, err error)) ([]*Artefact, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*Artefact
	for _, e := range entries {
		if !e.IsDir() || e.Name()[0] == '.' {
			continue
		}
		a, err := Open(filepath.Join(dir, e.Name()))
		if err == nil {
			list = append(list, a)
		} else if bad != nil {
			bad(filepath.Join(dir, e.Name()), err)
		}
	}
	return list, nil
}

// Remove deletes the snapshot at path, also a damaged one, but nothing that has no
// descriptor. Killed at any point, the name is whole or gone.
func Remove(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return &NotFoundError{Path: path}
	}
	if err != nil {
		return err
	}
	defer unlock()
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return &NotFoundError{Path: path}
	}
	if _, _, err := readDescriptor(path); err != nil {
		return err
	}
	staging := stagingPath(filepath.Dir(path), filepath.Base(path))
	if err := errors.Join(sweep(filepath.Dir(path)), os.RemoveAll(staging)); err != nil {
		return err
	}
	if err := publish(path, staging, false); err != nil {
		return err
	}
	return os.RemoveAll(staging)
}
