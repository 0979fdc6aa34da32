package client

import (
	"context"
	"fmt"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Entry is the metadata of a file in the guest. Mode holds the full Linux st_mode,
// type bits included.
type Entry = proto.FSEntry

// fsCall performs a file operation that has one answer. want is the kind of result, ""
// for operations without one.
func (c *Client) fsCall(ctx context.Context, path string, op proto.FSOp, want proto.ResultKind) (*proto.FSResult, error) {
	s, err := c.open(ctx, proto.TypeFSRequest, proto.FSRequest{Op: op})
	if err != nil {
		return nil, err
	}
	ev, err := s.recv(ctx)
	if err != nil {
		s.abandon()
		return nil, endError(err)
	}
	return ev.fsResult(path, op, want)
}

// fsResult decodes the answer to a file operation.
func (e event) fsResult(path string, op proto.FSOp, want proto.ResultKind) (*proto.FSResult, error) {
	var p proto.FSResponse
	if err := e.decode(proto.TypeFSResponse, &p); err != nil {
		return nil, err
	}
	if !p.OK {
		message := deref(p.Error)
		if message == "" {
			message = "operation failed"
		}
		errno, _ := proto.ParseErrno(message)
		return nil, &FSError{Op: op.Name(), Path: path, Errno: errno, Message: message}
	}
	if want == "" {
		return nil, nil
	}
	if p.Data == nil || p.Data.Kind != want {
		return nil, fmt.Errorf("%w: %s answered without a %s", ErrProtocol, op.Name(), want)
	}
	return p.Data, nil
}

func (c *Client) fsDo(ctx context.Context, path string, op proto.FSOp) error {
	_, err := c.fsCall(ctx, path, op, "")
	return err
}

// Stat returns the metadata of path, following links.
func (c *Client) Stat(ctx context.Context, path string) (Entry, error) {
	return c.stat(ctx, path, true)
}

// Lstat returns the metadata of path itself.
func (c *Client) Lstat(ctx context.Context, path string) (Entry, error) {
	return c.stat(ctx, path, false)
}

func (c *Client) stat(ctx context.Context, path string, follow bool) (Entry, error) {
	r, err := c.fsCall(ctx, path, proto.FSStat{Path: path, FollowSymlink: follow}, proto.ResultStat)
	if err != nil {
		return Entry{}, err
	}
	return r.Entry, nil
}

// List returns the entries of a directory in the guest's order. Their paths are what the
// guest says and must not be used on the host.
func (c *Client) List(ctx context.Context, path string) ([]Entry, error) {
	r, err := c.fsCall(ctx, path, proto.FSList{Path: path}, proto.ResultList)
	if err != nil {
		return nil, err
	}
	return r.Entries, nil
}

// RealPath returns path without links and dots; its last component may be missing.
func (c *Client) RealPath(ctx context.Context, path string) (string, error) {
	return c.fsPath(ctx, path, proto.FSRealPath{Path: path})
}

// ReadLink returns a link's target.
func (c *Client) ReadLink(ctx context.Context, path string) (string, error) {
	return c.fsPath(ctx, path, proto.FSReadLink{Path: path})
}

func (c *Client) fsPath(ctx context.Context, path string, op proto.FSOp) (string, error) {
	r, err := c.fsCall(ctx, path, op, proto.ResultPath)
	if err != nil {
		return "", err
	}
	return r.Path, nil
}

// Mkdir makes a directory and its parents; one that exists is no error. A mode gives the
// last one these permission bits, nil leaves them to the guest.
func (c *Client) Mkdir(ctx context.Context, path string, mode *uint32) error {
	return c.fsDo(ctx, path, proto.FSMkdir{Path: path, Mode: mode})
}

// Remove removes a file or a link.
func (c *Client) Remove(ctx context.Context, path string) error {
	return c.fsDo(ctx, path, proto.FSRemove{Path: path})
}

// RemoveDir removes a directory, with all it contains if recursive.
func (c *Client) RemoveDir(ctx context.Context, path string, recursive bool) error {
	return c.fsDo(ctx, path, proto.FSRemoveDir{Path: path, Recursive: recursive})
}

// Rename renames within one file system of the guest.
func (c *Client) Rename(ctx context.Context, src, dst string) error {
	return c.fsDo(ctx, src, proto.FSRename{Src: src, Dst: dst})
}

// Copy copies one regular file within the guest.
func (c *Client) Copy(ctx context.Context, src, dst string) error {
	return c.fsDo(ctx, src, proto.FSCopy{Src: src, Dst: dst})
}

// Symlink makes link point to target.
func (c *Client) Symlink(ctx context.Context, target, link string) error {
	return c.fsDo(ctx, link, proto.FSSymlink{Target: target, LinkPath: link})
}

// SetStat changes the attributes that are given, following links.
func (c *Client) SetStat(ctx context.Context, path string, attrs proto.FSAttrs) error {
	return c.fsDo(ctx, path, proto.FSSetStat{Path: path, FollowSymlink: true, Attrs: attrs})
}

// LsetStat changes the attributes of path itself.
func (c *Client) LsetStat(ctx context.Context, path string, attrs proto.FSAttrs) error {
	return c.fsDo(ctx, path, proto.FSSetStat{Path: path, Attrs: attrs})
}

// Chmod changes permission bits.
func (c *Client) Chmod(ctx context.Context, path string, mode uint32) error {
	return c.SetStat(ctx, path, proto.FSAttrs{Mode: &mode})
}

// ModTime returns when the file was changed, or the zero time if the guest does not say.
func ModTime(e Entry) time.Time {
	if e.Mtime == nil {
		return time.Time{}
	}
	return time.Unix(*e.Mtime, 0)
}
