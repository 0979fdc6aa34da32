package sparse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// chunk bounds one copy request, in bytes, so that a cancelled copy ends soon.
const chunk = 64 << 20

// Copy makes the empty file dst a copy of src, holes included. It moves the position of
// both. It does not sync.
func Copy(ctx context.Context, dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", src.Name(), ErrNotRegular)
	}
	switch err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); {
	case err == nil:
		return nil
	case !cannotClone(err):
		return fmt.Errorf("clone %s: %w", src.Name(), err)
	}
	return copyExtents(ctx, dst, src, info.Size())
}

// cannotClone tells a file system that shares no blocks from one that failed to.
func cannotClone(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func copyExtents(ctx context.Context, dst, src *os.File, size int64) error {
	if err := dst.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); ; {
		e, err := Next(src, at, size)
		if err != nil || e.Length == 0 {
			return err
		}
		if err := copyExtent(ctx, dst, src, e); err != nil {
			return err
		}
		at = e.End()
	}
}

func copyExtent(ctx context.Context, dst, src *os.File, e Extent) error {
	from, to := e.Offset, e.Offset
	for from < e.End() {
		if err := ctx.Err(); err != nil {
			return err
		}
		want := min(e.End()-from, chunk)
		n, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(want), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && cannotClone(err):
			if err := copyBytes(dst, src, from, want); err != nil {
				return err
			}
			from, to = from+want, to+want
		case err != nil:
			return fmt.Errorf("copy %s: %w", src.Name(), err)
		case n == 0:
			return fmt.Errorf("%s: %w", src.Name(), ErrChanged)
		}
	}
	return nil
}

func copyBytes(dst, src *os.File, offset, length int64) error {
	n, err := io.Copy(io.NewOffsetWriter(dst, offset), io.NewSectionReader(src, offset, length))
	if err == nil && n < length {
		return fmt.Errorf("%s: %w", src.Name(), ErrChanged)
	}
	return err
}

// CopyFile makes a copy of the regular file src at dst, which must not exist. Whoever
// sees dst sees all of it, also after a crash: it is written beside, synced and renamed.
func CopyFile(ctx context.Context, dst, src string, perm os.FileMode) (err error) {
	from, err := Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	dir := filepath.Dir(dst)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(dst)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	err = Copy(ctx, tmp, from)
	if err == nil {
		err = tmp.Chmod(perm)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err = unix.Renameat2(unix.AT_FDCWD, tmp.Name(), unix.AT_FDCWD, dst, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: tmp.Name(), New: dst, Err: err}
	}
	return SyncDir(dir)
}

// Open opens a regular file for reading; a link as the last element is refused.
func Open(path string) (*os.File, error) {
	// Without O_NONBLOCK, a pipe in place of the file would block the open.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
