package microsandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrPathEscape reports a path that leads out of a volume.
var ErrPathEscape = errors.New("microsandbox: path escapes volume root")

// VolumeFs works on the files of a volume from the host, whether sandboxes have it or not.
// Paths are relative to the volume's root; one that leads out of it, also by a symbolic
// link, is ErrPathEscape. Other errors are those of the host's file system. What this
// process creates belongs, in a guest, to the default user.
type VolumeFs struct{ root string }

// Root is the volume's directory on the host.
func (v *VolumeFs) Root() string { return v.root }

// in runs f with the volume's root open and a path that is lexically within it.
func (v *VolumeFs) in(ctx context.Context, path string, f func(root *os.Root, path string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	local := filepath.Clean(filepath.FromSlash(path))
	if !filepath.IsLocal(local) {
		return fmt.Errorf("%w: %q", ErrPathEscape, path)
	}
	root, err := os.OpenRoot(v.root)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	err = f(root, local)
	// The kernel has numbers for all that can be wrong with a path but this.
	var at *fs.PathError
	var errno syscall.Errno
	if errors.As(err, &at) && !errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrPathEscape, err)
	}
	return err
}

// regular opens a file that is to be a regular one: a named pipe would make us wait.
func regular(root *os.Root, path string, flags int) (*os.File, error) {
	f, err := root.OpenFile(path, flags|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.EINVAL}
		if info.IsDir() {
			err = &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Read returns the content of a file.
func (v *VolumeFs) Read(ctx context.Context, path string) (data []byte, err error) {
	err = v.in(ctx, path, func(root *os.Root, path string) error {
		f, err := regular(root, path, os.O_RDONLY)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		data, err = io.ReadAll(f)
		return err
	})
	return data, err
}

// ReadString is Read for text.
func (v *VolumeFs) ReadString(ctx context.Context, path string) (string, error) {
	b, err := v.Read(ctx, path)
	return string(b), err
}

// Write makes a file hold data; a new one gets mode 0644.
func (v *VolumeFs) Write(ctx context.Context, path string, data []byte) error {
	return v.in(ctx, path, func(root *os.Root, path string) error {
		f, err := regular(root, path, os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return err
		}
		if err = f.Truncate(0); err == nil {
			_, err = f.Write(data)
		}
		return errors.Join(err, f.Close())
	})
}

// WriteString is Write for text.
func (v *VolumeFs) WriteString(ctx context.Context, path, text string) error {
	return v.Write(ctx, path, []byte(text))
}

// Mkdir makes a directory with its parents; one that is there is fine.
func (v *VolumeFs) Mkdir(ctx context.Context, path string) error {
	return v.in(ctx, path, func(root *os.Root, path string) error { return root.MkdirAll(path, 0o755) })
}

// Remove removes a file or an empty directory.
func (v *VolumeFs) Remove(ctx context.Context, path string) error {
	return v.in(ctx, path, func(root *os.Root, path string) error { return root.Remove(path) })
}

// RemoveAll removes a file or a directory with all that is in it; one that is not there is
// fine.
func (v *VolumeFs) RemoveAll(ctx context.Context, path string) error {
	return v.in(ctx, path, func(root *os.Root, path string) error { return root.RemoveAll(path) })
}

// Exists reports whether there is something at the path. A symbolic link is followed.
func (v *VolumeFs) Exists(ctx context.Context, path string) (there bool, err error) {
	err = v.in(ctx, path, func(root *os.Root, path string) error {
		_, err := root.Stat(path)
		there = err == nil
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			err = nil
		}
		return err
	})
	return there, err
}
