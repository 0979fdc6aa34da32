//go:build linux

package files

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// open opens a path close-on-exec and repeats what a signal interrupted.
func open(path string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

func pathResult(path string) *proto.FSResult {
	return &proto.FSResult{Kind: proto.ResultPath, Path: strings.ToValidUTF8(path, "\uFFFD")}
}

// realPath resolves a path; its last component need not exist.
func realPath(op proto.FSRealPath) (*proto.FSResult, error) {
	path, err := resolve(op.Path)
	if err == nil {
		return pathResult(path), nil
	}
	trimmed := strings.TrimRight(op.Path, "/")
	dir, name := filepath.Split(trimmed)
	if name != "" && name != "." && name != ".." {
		if dir == "" {
			dir = "."
		}
		if parent, perr := resolve(dir); perr == nil {
			return pathResult(filepath.Join(parent, name)), nil
		}
	}
	return nil, failed("realpath: ", err)
}

// resolve asks the kernel what a path means.
func resolve(path string) (string, error) {
	fd, err := open(path, unix.O_PATH, 0)
	if err != nil {
		return "", err
	}
	target, err := readLinkAt("/proc/self/fd/" + strconv.Itoa(fd))
	return target, errors.Join(err, unix.Close(fd))
}

// readLinkAt returns the whole target of a link.
func readLinkAt(path string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlink(path, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

func readLink(op proto.FSReadLink) (*proto.FSResult, error) {
	target, err := readLinkAt(op.Path)
	if err != nil {
		return nil, failed("readlink: ", err)
	}
	return pathResult(target), nil
}

// newDirMode is that of directories made on the way; the umask applies.
const newDirMode = 0o777

func mkdir(op proto.FSMkdir) error {
	if err := mkdirAll(op.Path); err != nil {
		return failed("mkdir: ", err)
	}
	if op.Mode == nil {
		return nil
	}
	if err := unix.Chmod(op.Path, *op.Mode&permissions); err != nil {
		return failed("chmod: ", err)
	}
	return nil
}

// mkdirAll makes a directory and its parents. One that is there is fine.
func mkdirAll(path string) error {
	var missing []string // deepest first
	for p := path; ; {
		err := unix.Mkdir(p, newDirMode)
		if err == nil || isDir(p) {
			break
		}
		parent := filepath.Dir(strings.TrimRight(p, "/"))
		if !errors.Is(err, unix.ENOENT) || parent == p || p == "" {
			return err
		}
		missing = append(missing, p)
		p = parent
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := unix.Mkdir(missing[i], newDirMode); err != nil && !isDir(missing[i]) {
			return err
		}
	}
	return nil
}

func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func removeDir(op proto.FSRemoveDir) error {
	if !op.Recursive {
		return wrap("remove_dir: ", unix.Rmdir(op.Path))
	}
	var st unix.Stat_t
	err := unix.Lstat(op.Path, &st)
	if err == nil {
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = os.RemoveAll(op.Path)
		case unix.S_IFLNK:
			err = unix.Unlink(op.Path)
		default:
			err = unix.ENOTDIR
		}
	}
	return wrap("remove_dir: ", err)
}

func wrap(steps string, err error) error {
	if err == nil {
		return nil
	}
	return failed(steps, err)
}

var (
	errNotFile  = errors.New("the source path is neither a regular file nor a symlink to a regular file")
	errSameFile = errors.New("source and destination are the same file")
)

// copyFile copies contents and permission bits of a regular file.
func copyFile(op proto.FSCopy) error {
	// Without O_NONBLOCK a FIFO would wait for somebody to write to it.
	in, err := open(op.Src, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return failed("copy: ", err)
	}
	src := os.NewFile(uintptr(in), op.Src)
	defer func() { _ = src.Close() }() // only read
	var from, to unix.Stat_t
	if err := onFD(src, func(fd int) error { return unix.Fstat(fd, &from) }); err != nil {
		return failed("copy: ", err)
	}
	if from.Mode&unix.S_IFMT != unix.S_IFREG {
		return failed("copy: ", errNotFile)
	}
	if unix.Stat(op.Dst, &to) == nil && to.Dev == from.Dev && to.Ino == from.Ino {
		return failed("copy: ", errSameFile)
	}
	out, err := open(op.Dst, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, from.Mode&permissions)
	if err != nil {
		return failed("copy: ", err)
	}
	dst := os.NewFile(uintptr(out), op.Dst)
	err = copyInto(dst, src, from.Mode&permissions)
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	return wrap("copy: ", err)
}

func copyInto(dst, src *os.File, mode uint32) error {
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return onFD(dst, func(fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil // a device, say: its mode is none of our business
		}
		return unix.Fchmod(fd, mode)
	})
}
