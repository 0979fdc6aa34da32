package microsandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/guestagent/client"
)

// CopyFromHost copies a file or a directory tree of the host to guest. If guest is a
// directory, the copy goes into it under the source's name. Modes are kept, links are
// copied as links.
func (f *SandboxFSOps) CopyFromHost(ctx context.Context, host, guest string) error {
	st, err := os.Lstat(host)
	if err != nil {
		return wrap(ErrIO, err)
	}
	if g, err := f.Stat(ctx, guest); err == nil && g.IsDir {
		abs, err := filepath.Abs(host)
		if err != nil {
			return wrap(ErrIO, err)
		}
		guest = path.Join(guest, filepath.Base(abs))
	}
	if !st.IsDir() {
		return f.sendOne(ctx, host, guest, st)
	}
	return filepath.WalkDir(host, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return wrap(ErrIO, err)
		}
		rel, err := filepath.Rel(host, p)
		if err != nil {
			return wrap(ErrIO, err)
		}
		info, err := d.Info()
		if err != nil {
			return wrap(ErrIO, err)
		}
		return f.sendOne(ctx, p, path.Join(guest, filepath.ToSlash(rel)), info)
	})
}

func (f *SandboxFSOps) sendOne(ctx context.Context, host, guest string, st fs.FileInfo) error {
	c, err := f.s.agent()
	if err != nil {
		return err
	}
	mode := uint32(st.Mode().Perm())
	switch {
	case st.IsDir():
		return agentError(c.Mkdir(ctx, guest, &mode))
	case st.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(host)
		if err != nil {
			return wrap(ErrIO, err)
		}
		return agentError(c.Symlink(ctx, target, guest))
	case !st.Mode().IsRegular():
		return fail(ErrInvalidArgument, "%s is not a file, directory or link", host)
	}
	in, err := os.Open(host)
	if err != nil {
		return wrap(ErrIO, err)
	}
	defer in.Close()
	w, err := c.OpenWriter(ctx, guest, &mode)
	if err != nil {
		return agentError(err)
	}
	_, err = io.Copy(contextWriter{ctx, w}, in)
	if cerr := w.Close(ctx); err == nil {
		err = cerr
	}
	if err == nil {
		err = c.Chmod(ctx, guest, mode) // an existing file kept its own
	}
	return agentError(err)
}

type contextWriter struct {
	ctx context.Context
	w   *client.FileWriter
}

func (c contextWriter) Write(p []byte) (int, error) { return c.w.WriteContext(c.ctx, p) }

// CopyToHost copies a file or a directory tree of the guest to host. If host is a
// directory, the copy goes into it under the source's name. Names that would leave the
// target are refused.
func (f *SandboxFSOps) CopyToHost(ctx context.Context, guest, host string) error {
	c, err := f.s.agent()
	if err != nil {
		return err
	}
	e, err := c.Lstat(ctx, guest)
	if err != nil {
		return agentError(err)
	}
	if st, err := os.Stat(host); err == nil && st.IsDir() {
		host = filepath.Join(host, path.Base(path.Clean("/"+guest)))
	}
	abs, err := filepath.Abs(host)
	if err != nil {
		return wrap(ErrIO, err)
	}
	root, err := os.OpenRoot(filepath.Dir(abs))
	if err != nil {
		return wrap(ErrIO, err)
	}
	defer root.Close()
	return f.fetch(ctx, c, root, guest, filepath.Base(abs), e, 0)
}

// maxCopyDepth bounds what a guest that invents directories can make us create.
const maxCopyDepth = 256

// fetch copies one entry below root, which no name from the guest can leave.
func (f *SandboxFSOps) fetch(ctx context.Context, c *client.Client, root *os.Root, guest, host string, e client.Entry, depth int) error {
	if depth > maxCopyDepth {
		return fail(ErrFilesystem, "%s is more than %d directories deep", guest, maxCopyDepth)
	}
	perm := fs.FileMode(e.Mode & 0o777)
	switch entryKind(e) {
	case FsEntryKindDirectory:
		if err := root.Mkdir(host, perm|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return wrap(ErrIO, err)
		}
		entries, err := c.List(ctx, guest)
		if err != nil {
			return agentError(err)
		}
		for _, sub := range entries {
			name := path.Base(sub.Path)
			if name == "." || name == ".." || name == "/" || strings.ContainsAny(name, "\x00\\") && filepath.Separator == '\\' {
				return fail(ErrFilesystem, "the guest named an entry %q, which is no file name", sub.Path)
			}
			if err := f.fetch(ctx, c, root, path.Join(guest, name), filepath.Join(host, name), sub, depth+1); err != nil {
				return err
			}
		}
		return wrap(ErrIO, root.Chmod(host, perm))
	case FsEntryKindSymlink:
		target, err := c.ReadLink(ctx, guest)
		if err != nil {
			return agentError(err)
		}
		if err := removeFile(root, host); err != nil {
			return err
		}
		return wrap(ErrIO, root.Symlink(target, host))
	case FsEntryKindFile:
		return f.fetchFile(ctx, c, root, guest, host, perm)
	}
	return fail(ErrFilesystem, "%s is not a file, directory or link", guest)
}

func (f *SandboxFSOps) fetchFile(ctx context.Context, c *client.Client, root *os.Root, guest, host string, perm fs.FileMode) error {
	r, err := c.OpenReader(ctx, guest)
	if err != nil {
		return agentError(err)
	}
	defer r.Close()
	if err := removeFile(root, host); err != nil {
		return err
	}
	out, err := root.OpenFile(host, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm|0o200)
	if err != nil {
		return wrap(ErrIO, err)
	}
	_, err = r.CopyTo(ctx, out)
	if err == nil {
		err = out.Chmod(perm)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return agentError(err)
}

// removeFile makes room for a copy. Only a file or link gives way.
func removeFile(root *os.Root, name string) error {
	st, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return wrap(ErrIO, err)
	case st.IsDir():
		return fail(ErrInvalidArgument, "%s is a directory and in the way of a file", filepath.Join(root.Name(), name))
	}
	return wrap(ErrIO, root.Remove(name))
}
