package microsandbox

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// SandboxFSOps works on the files of a running sandbox, as root of the guest.
type SandboxFSOps struct{ s *Sandbox }

// FS gives access to the sandbox's files.
func (s *Sandbox) FS() *SandboxFSOps { return &SandboxFSOps{s} }

// FsEntryKind is the type of a file.
type FsEntryKind string

// File types.
const (
	FsEntryKindFile      FsEntryKind = "file"
	FsEntryKindDirectory FsEntryKind = "directory"
	FsEntryKindSymlink   FsEntryKind = "symlink"
	FsEntryKindOther     FsEntryKind = "other"
)

// FsEntry is one file of a directory. Its path comes from the guest: do not use it on
// the host unchecked.
type FsEntry struct {
	Path string
	Kind FsEntryKind
	Size int64  // bytes
	Mode uint32 // permission bits with setuid, setgid and sticky
}

// FsStat is the metadata of a file.
type FsStat struct {
	Path    string
	Size    int64
	Mode    uint32
	ModTime time.Time // zero if unknown
	IsDir   bool
}

// entryKind is the type that the guest states; what it makes up is other.
func entryKind(e client.Entry) FsEntryKind {
	switch e.Kind {
	case proto.EntryFile:
		return FsEntryKindFile
	case proto.EntryDir:
		return FsEntryKindDirectory
	case proto.EntrySymlink:
		return FsEntryKindSymlink
	}
	return FsEntryKindOther
}

const permissionBits = 0o7777

// Read returns a file's content.
func (f *SandboxFSOps) Read(ctx context.Context, p string) ([]byte, error) {
	c, err := f.s.agent()
	if err != nil {
		return nil, err
	}
	b, err := c.ReadFile(ctx, p)
	return b, agentError(err)
}

// ReadString returns a file's content as text.
func (f *SandboxFSOps) ReadString(ctx context.Context, p string) (string, error) {
	b, err := f.Read(ctx, p)
	return string(b), err
}

// Write creates or truncates a file.
func (f *SandboxFSOps) Write(ctx context.Context, p string, data []byte) error {
	c, err := f.s.agent()
	if err != nil {
		return err
	}
	return agentError(c.WriteFile(ctx, p, data, nil))
}

// WriteString creates or truncates a file.
func (f *SandboxFSOps) WriteString(ctx context.Context, p, data string) error {
	return f.Write(ctx, p, []byte(data))
}

// List returns the entries of a directory in the guest's order.
func (f *SandboxFSOps) List(ctx context.Context, p string) ([]FsEntry, error) {
	c, err := f.s.agent()
	if err != nil {
		return nil, err
	}
	entries, err := c.List(ctx, p)
	if err != nil {
		return nil, agentError(err)
	}
	out := make([]FsEntry, 0, len(entries))
	for _, e := range entries {
		out = append(out, FsEntry{Path: e.Path, Kind: entryKind(e), Size: int64(e.Size), Mode: e.Mode & permissionBits})
	}
	return out, nil
}

// Stat returns the metadata of a file, following links.
func (f *SandboxFSOps) Stat(ctx context.Context, p string) (*FsStat, error) {
	c, err := f.s.agent()
	if err != nil {
		return nil, err
	}
	e, err := c.Stat(ctx, p)
	if err != nil {
		return nil, agentError(err)
	}
	return &FsStat{Path: p, Size: int64(e.Size), Mode: e.Mode & permissionBits, ModTime: client.ModTime(e), IsDir: entryKind(e) == FsEntryKindDirectory}, nil
}

// Exists reports whether a path leads to a file.
func (f *SandboxFSOps) Exists(ctx context.Context, p string) (bool, error) {
	_, err := f.Stat(ctx, p)
	if IsKind(err, ErrPathNotFound) {
		return false, nil
	}
	return err == nil, err
}

// call runs f on the agent connection.
func (f *SandboxFSOps) call(do func(*client.Client) error) error {
	c, err := f.s.agent()
	if err != nil {
		return err
	}
	return agentError(do(c))
}

// Mkdir creates a directory and its parents; one that exists is no error.
func (f *SandboxFSOps) Mkdir(ctx context.Context, p string) error {
	return f.call(func(c *client.Client) error { return c.Mkdir(ctx, p, nil) })
}

// Remove removes a file or a link.
func (f *SandboxFSOps) Remove(ctx context.Context, p string) error {
	return f.call(func(c *client.Client) error { return c.Remove(ctx, p) })
}

// RemoveDir removes a directory with everything in it.
func (f *SandboxFSOps) RemoveDir(ctx context.Context, p string) error {
	return f.call(func(c *client.Client) error { return c.RemoveDir(ctx, p, true) })
}

// Copy copies a file within the guest.
func (f *SandboxFSOps) Copy(ctx context.Context, src, dst string) error {
	return f.call(func(c *client.Client) error { return c.Copy(ctx, src, dst) })
}

// Rename renames a file within one file system of the guest.
func (f *SandboxFSOps) Rename(ctx context.Context, src, dst string) error {
	return f.call(func(c *client.Client) error { return c.Rename(ctx, src, dst) })
}

// FsReadStream delivers a file in chunks. The caller closes it.
type FsReadStream struct{ r *client.FileReader }

// ReadStream opens a file for reading.
func (f *SandboxFSOps) ReadStream(ctx context.Context, p string) (*FsReadStream, error) {
	c, err := f.s.agent()
	if err != nil {
		return nil, err
	}
	r, err := c.OpenReader(ctx, p)
	if err != nil {
		return nil, agentError(err)
	}
	return &FsReadStream{r}, nil
}

// Recv returns the next chunk; nil without an error at the end.
func (s *FsReadStream) Recv(ctx context.Context) ([]byte, error) {
	b, err := s.r.Recv(ctx)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return b, agentError(err)
}

// WriteTo writes the rest of the file to w.
func (s *FsReadStream) WriteTo(w io.Writer) (int64, error) {
	return s.CopyTo(context.Background(), w)
}

// CopyTo is WriteTo that ctx can end between chunks.
func (s *FsReadStream) CopyTo(ctx context.Context, w io.Writer) (int64, error) {
	n, err := s.r.CopyTo(ctx, w)
	return n, agentError(err)
}

// Close releases the stream.
func (s *FsReadStream) Close() error { return agentError(s.r.Close()) }

// FsWriteStream writes a file in chunks. Close finishes it and is required.
type FsWriteStream struct{ w *client.FileWriter }

// WriteStream creates or truncates a file for writing.
func (f *SandboxFSOps) WriteStream(ctx context.Context, p string) (*FsWriteStream, error) {
	c, err := f.s.agent()
	if err != nil {
		return nil, err
	}
	w, err := c.OpenWriter(ctx, p, nil)
	if err != nil {
		return nil, agentError(err)
	}
	return &FsWriteStream{w}, nil
}

// Write appends p.
func (s *FsWriteStream) Write(p []byte) (int, error) { return s.WriteCtx(context.Background(), p) }

// WriteCtx is Write bounded by ctx.
func (s *FsWriteStream) WriteCtx(ctx context.Context, p []byte) (int, error) {
	n, err := s.w.WriteContext(ctx, p)
	return n, agentError(err)
}

// Close finishes the file and reports what went wrong while writing it.
func (s *FsWriteStream) Close(ctx context.Context) error { return agentError(s.w.Close(ctx)) }
