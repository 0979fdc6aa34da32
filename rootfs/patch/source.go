package patch

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// sourceMode are the permission bits that a copy takes from its source: a program that
// runs as its owner here must not run as root there.
const sourceMode = 0o1777

func modeOf(info fs.FileInfo) uint32 {
	mode := uint32(info.Mode().Perm())
	if info.Mode()&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return mode & sourceMode
}

// openSource returns a file like the regular file at path, of which it reads the content
// when it is needed.
func (b *plan) openSource(name string, mode *uint32) (*tree.Inode, error) {
	h := &hostFile{ctx: b.ctx, open: func() (*os.File, error) { return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) }}
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	return h.inode(name, info, mode)
}

// hostFile is the content of a file of the host, which is open only while it is read from
// its start to its end.
type hostFile struct {
	ctx  context.Context
	open func() (*os.File, error)
	info fs.FileInfo

	mu sync.Mutex
	f  *os.File
}

func (h *hostFile) inode(name string, info fs.FileInfo, mode *uint32) (*tree.Inode, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", ErrSource, name)
	}
	h.info = info
	perm := modeOf(info)
	if mode != nil {
		perm = *mode
	} else if perm == 0 {
		perm = 0o644
	}
	return &tree.Inode{Mode: tree.TypeRegular | perm, Size: info.Size(), Content: h}, nil
}

// ReadAt implements io.ReaderAt.
func (h *hostFile) ReadAt(p []byte, off int64) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ctx.Err(); err != nil {
		return 0, err
	}
	if h.f == nil {
		f, err := h.reopen()
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrSource, err)
		}
		h.f = f
	}
	n, err := h.f.ReadAt(p, off)
	if err == io.EOF && off+int64(n) < h.info.Size() {
		err = fmt.Errorf("%w: %s has become shorter", ErrSource, h.f.Name())
	}
	if err != nil || off+int64(n) >= h.info.Size() {
		_ = h.f.Close() // it was only read
		h.f = nil
	}
	return n, err
}

// reopen opens the file that the plan was made with, and no other.
func (h *hostFile) reopen() (*os.File, error) {
	f, err := h.open()
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(info, h.info) {
		err = fmt.Errorf("%s has been replaced meanwhile", f.Name())
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// copyDir plans a tree like the directory src of the host. Its symbolic links are copied
// as they are; what else is no file and no directory is an error.
func (b *plan) copyDir(src string, dst []string, replace bool) error {
	was, _, err := b.look(dst)
	switch {
	case err != nil:
		return err
	case was != nil && !was.IsDir():
		return inTheWay(dst, was)
	case was != nil && !replace:
		return fmt.Errorf("%w: /%s", ErrExists, strings.Join(dst, "/"))
	}
	root, err := os.OpenRoot(src) // open as long as a file of it may be read
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = b.ctx.Err()
		}
		if err == nil {
			err = b.copyEntry(root, name, dst, replace)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", path.Join(filepath.ToSlash(src), name), err)
		}
		return err
	})
}

func (b *plan) copyEntry(root *os.Root, name string, dst []string, replace bool) error {
	parts := dst[:len(dst):len(dst)]
	if name != "." {
		parts = append(parts, strings.Split(name, "/")...)
	}
	info, err := root.Lstat(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return b.copyDirectory(parts, modeOf(info))
	case fs.ModeSymlink:
		target, err := root.Readlink(name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSource, err)
		}
		return b.put(parts, &tree.Inode{Mode: tree.TypeSymlink | 0o777, Target: target}, replace)
	case 0:
		h := &hostFile{ctx: b.ctx, open: func() (*os.File, error) { return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) }}
		node, err := h.inode(name, info, nil)
		if err != nil {
			return err
		}
		return b.put(parts, node, replace)
	}
	return fmt.Errorf("%w: neither a file, nor a directory, nor a symbolic link", ErrSource)
}

// copyDirectory makes a directory with the mode of its source; one that is there keeps
// its own.
func (b *plan) copyDirectory(parts []string, mode uint32) error {
	if mode == 0 {
		mode = 0o755
	}
	was, _, err := b.look(parts)
	if err != nil || was != nil && was.IsDir() {
		return err
	}
	return b.mkdir(parts, &mode)
}
