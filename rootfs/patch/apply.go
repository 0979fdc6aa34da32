package patch

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Apply makes the patches to the directory dir of the host, which is about to be a root.
// Symbolic links on the way lead where they would lead in a guest whose root dir is, and
// none leads out of it. All patches are checked before the first change is made: after an
// error of this package nothing is changed, and after one of the host or of ctx the changes
// before it are.
func Apply(ctx context.Context, patches []Patch, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // it was only read
	b, err := newPlan(ctx, &directory{ctx, root})
	if err != nil {
		return err
	}
	b.follow = true
	if err := b.run(patches); err != nil {
		return err
	}
	return b.write(root, ".", b.upper.Root)
}

// directory is the Lower of a directory of the host.
type directory struct {
	ctx  context.Context
	root *os.Root
}

func (d *directory) Lookup(parts []string) (*tree.Inode, error) {
	name := path.Join(append([]string{"."}, parts...)...)
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return tree.NewDir(modeBits(info)), nil
	case fs.ModeSymlink:
		target, err := d.root.Readlink(name)
		return &tree.Inode{Mode: tree.TypeSymlink | 0o777, Target: target}, err
	case fs.ModeNamedPipe:
		return &tree.Inode{Mode: tree.TypeFIFO}, nil
	case fs.ModeSocket:
		return &tree.Inode{Mode: tree.TypeSocket}, nil
	case 0:
		h := &hostFile{ctx: d.ctx, info: info, open: func() (*os.File, error) { return d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) }}
		return &tree.Inode{Mode: tree.TypeRegular | modeBits(info), Size: info.Size(), Content: h}, nil
	}
	return &tree.Inode{Mode: tree.TypeBlock}, nil
}

// modeBits are the permission bits of a file as stat(2) gives them.
func modeBits(info fs.FileInfo) uint32 {
	mode := uint32(info.Mode().Perm())
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if info.Mode()&flag != 0 {
			mode |= bit
		}
	}
	return mode
}

// fileMode is the inverse of modeBits.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// write makes the changes in one directory.
func (b *plan) write(root *os.Root, dir string, node *tree.Inode) error {
	for _, name := range node.Whiteouts() {
		if err := root.RemoveAll(path.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range node.Names() {
		if err := b.writeEntry(root, path.Join(dir, name), node.Child(name)); err != nil {
			return err
		}
	}
	return nil
}

func (b *plan) writeEntry(root *os.Root, name string, node *tree.Inode) error {
	switch node.Type() {
	case tree.TypeDir:
		if err := b.writeDir(root, name, node); err != nil {
			return err
		}
		return b.write(root, name, node)
	case tree.TypeSymlink:
		return b.publish(root, name, b.over[node], func(name string) error { return root.Symlink(node.Target, name) })
	}
	if tail, ok := b.tails[node]; ok {
		return writeFile(root, name, os.O_APPEND, bytes.NewReader(tail), nil)
	}
	return b.publish(root, name, b.over[node], func(name string) error {
		mode := fileMode(node.Mode & tree.PermMask)
		return writeFile(root, name, os.O_CREATE|os.O_EXCL, node.Reader(), &mode)
	})
}

func (b *plan) writeDir(root *os.Root, name string, node *tree.Inode) error {
	if !b.kept[node] {
		if err := root.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	info, err := root.Lstat(name)
	if err != nil || modeBits(info) == node.Mode&tree.PermMask {
		return err
	}
	return root.Chmod(name, fileMode(node.Mode&tree.PermMask))
}

// publish makes a file that was not there, or one in the place of another at once.
func (b *plan) publish(root *os.Root, name string, replace bool, make func(name string) error) error {
	if !replace {
		return make(name)
	}
	temporary := path.Join(path.Dir(name), ".msb-"+rand.Text())
	err := make(temporary)
	if err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		if e := root.Remove(temporary); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// writeFile writes content to a file. The mode is that of the
// open file: whoever has the name meanwhile keeps its own.
func writeFile(root *os.Root, name string, flag int, content io.Reader, mode *fs.FileMode) error {
	f, err := root.OpenFile(name, os.O_WRONLY|syscall.O_NONBLOCK|flag, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil && mode != nil {
		err = f.Chmod(*mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
