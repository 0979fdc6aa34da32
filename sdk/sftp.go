//go:build unix

package microsandbox

import (
	"bytes"
	"context"
	"errors"
	"io/fs"

	"github.com/pkg/sftp"
)

// SFTPClient works on the sandbox's files over SSH. It is safe for concurrent use. A call
// whose context ends returns at once; what it asked for may still happen.
type SFTPClient struct{ c *sftp.Client }

// SFTP opens an SFTP session on the connection.
func (c *SSHClient) SFTP(ctx context.Context) (*SFTPClient, error) {
	return await(ctx, func() (*SFTPClient, error) {
		s, err := sftp.NewClient(c.client)
		if err != nil {
			return nil, wrap(ErrUnsupportedOperation, err)
		}
		return &SFTPClient{s}, nil
	})
}

// await returns do's result unless ctx ends first. do then goes on until the session or
// the connection ends.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, sftpError(err)}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, cancelled(ctx)
	}
}

func sftpError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return wrap(ErrPathNotFound, err)
	case errors.Is(err, sftp.ErrSSHFxConnectionLost), errors.Is(err, sftp.ErrSSHFxNoConnection):
		return wrap(ErrInvalidHandle, err)
	}
	return wrap(ErrFilesystem, err)
}

// do is await for calls without a result.
func (c *SFTPClient) do(ctx context.Context, do func() error) error {
	_, err := await(ctx, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// Read returns a file's content, at most 1 GiB.
func (c *SFTPClient) Read(ctx context.Context, path string) ([]byte, error) {
	return await(ctx, func() ([]byte, error) {
		f, err := c.c.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		var b bytes.Buffer
		left := &outputLimit{left: maxCollect}
		_, err = f.WriteTo(left.limit(&b))
		return b.Bytes(), err
	})
}

// Write creates or truncates a file.
func (c *SFTPClient) Write(ctx context.Context, path string, data []byte) error {
	return c.do(ctx, func() error {
		f, err := c.c.Create(path)
		if err != nil {
			return err
		}
		_, err = f.ReadFrom(bytes.NewReader(data))
		return errors.Join(err, f.Close())
	})
}

// Mkdir creates a directory, whose parent must exist.
func (c *SFTPClient) Mkdir(ctx context.Context, path string) error {
	return c.do(ctx, func() error { return c.c.Mkdir(path) })
}

// RemoveFile removes a file or a link.
func (c *SFTPClient) RemoveFile(ctx context.Context, path string) error {
	return c.do(ctx, func() error {
		st, err := c.c.Lstat(path)
		if err != nil {
			return err
		}
		if st.IsDir() {
			return &fs.PathError{Op: "remove", Path: path, Err: errors.New("is a directory")}
		}
		return c.c.Remove(path)
	})
}

// RemoveDir removes an empty directory.
func (c *SFTPClient) RemoveDir(ctx context.Context, path string) error {
	return c.do(ctx, func() error { return c.c.RemoveDirectory(path) })
}

// Rename renames a file; a target that exists is an error.
func (c *SFTPClient) Rename(ctx context.Context, from, to string) error {
	return c.do(ctx, func() error { return c.c.Rename(from, to) })
}

// Symlink makes link point to target.
func (c *SFTPClient) Symlink(ctx context.Context, target, link string) error {
	return c.do(ctx, func() error { return c.c.Symlink(target, link) })
}

// ReadLink returns a link's target.
func (c *SFTPClient) ReadLink(ctx context.Context, path string) (string, error) {
	return await(ctx, func() (string, error) { return c.c.ReadLink(path) })
}

// RealPath returns a path without links and dots.
func (c *SFTPClient) RealPath(ctx context.Context, path string) (string, error) {
	return await(ctx, func() (string, error) { return c.c.RealPath(path) })
}

// Close ends the SFTP session, not the connection.
func (c *SFTPClient) Close(ctx context.Context) error {
	return c.do(ctx, func() error { return c.c.Close() })
}
