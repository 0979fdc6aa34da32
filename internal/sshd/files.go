package sshd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// files maps SFTP version 3 (draft-ietf-secsh-filexfer-02) onto the agent's file
// operations. Every path is absolute and the guest's. The agent knows no hard links.
type files struct {
	ctx   context.Context // of the connection; requests have none that ends with it
	agent *client.Client
	start string
}

// status is an error with the SFTP code that tells clients most.
type status struct {
	error
	code error
}

func (s status) Unwrap() error { return s.code }

func reply(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return status{err, sftp.ErrSSHFxNoSuchFile}
	case errors.Is(err, fs.ErrPermission):
		return status{err, sftp.ErrSSHFxPermissionDenied}
	case errors.Is(err, client.ErrDisconnected):
		return status{err, sftp.ErrSSHFxConnectionLost}
	}
	return status{err, sftp.ErrSSHFxFailure}
}

// open opens the file of a request as its flags say.
func (f *files) open(r *sftp.Request) (*file, error) {
	flags := r.Pflags()
	o := proto.FSOpenOptions{Read: flags.Read, Write: flags.Write, Append: flags.Append, Create: flags.Creat, CreateNew: flags.Creat && flags.Excl, Truncate: flags.Trunc}
	if o.Create {
		o.Mode = newMode(r.Attrs)
	}
	h, err := f.agent.OpenFile(f.ctx, r.Filepath, o)
	if err != nil {
		return nil, reply(err)
	}
	return &file{ctx: f.ctx, f: h}, nil
}

// newMode returns the permissions a client wants for a new file. The library does not say
// which attributes came with an open request; a single one of this size is the
// permissions, and that is what clients send.
func newMode(attrs []byte) *uint32 {
	if len(attrs) != 4 {
		return nil
	}
	mode := binary.BigEndian.Uint32(attrs) & permissions
	return &mode
}

const permissions = 0o7777

// Fileread implements sftp.FileReader.
func (f *files) Fileread(r *sftp.Request) (io.ReaderAt, error) { return f.open(r) }

// Filewrite implements sftp.FileWriter.
func (f *files) Filewrite(r *sftp.Request) (io.WriterAt, error) { return f.open(r) }

// OpenFile implements sftp.OpenFileWriter.
func (f *files) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) { return f.open(r) }

// Filecmd implements sftp.FileCmder.
func (f *files) Filecmd(r *sftp.Request) error {
	switch r.Method {
	case "Setstat":
		return reply(f.agent.SetStat(f.ctx, r.Filepath, attributes(r)))
	case "Rename":
		if _, err := f.agent.Lstat(f.ctx, r.Target); err == nil {
			return status{&fs.PathError{Op: "rename", Path: r.Target, Err: fs.ErrExist}, sftp.ErrSSHFxFailure}
		}
		return reply(f.agent.Rename(f.ctx, r.Filepath, r.Target))
	case "Rmdir":
		return reply(f.agent.RemoveDir(f.ctx, r.Filepath, false))
	case "Mkdir":
		return f.mkdir(r.Filepath)
	case "Symlink":
		return reply(f.agent.Symlink(f.ctx, r.Filepath, r.Target))
	case "Remove":
		return reply(f.agent.Remove(f.ctx, r.Filepath))
	}
	return sftp.ErrSSHFxOpUnsupported
}

// PosixRename implements sftp.PosixRenameFileCmder: what exists is replaced.
func (f *files) PosixRename(r *sftp.Request) error {
	return reply(f.agent.Rename(f.ctx, r.Filepath, r.Target))
}

// mkdir makes one directory. The agent also makes parents and takes one that exists.
func (f *files) mkdir(dir string) error {
	if _, err := f.agent.Lstat(f.ctx, dir); err == nil {
		return status{&fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}, sftp.ErrSSHFxFailure}
	}
	if _, err := f.agent.Stat(f.ctx, path.Dir(dir)); err != nil {
		return reply(err)
	}
	return reply(f.agent.Mkdir(f.ctx, dir, nil))
}

// attributes are those that a request changes.
func attributes(r *sftp.Request) proto.FSAttrs {
	var a proto.FSAttrs
	flags, st := r.AttrFlags(), r.Attributes()
	if flags.Size {
		a.Size = &st.Size
	}
	if flags.UidGid {
		a.UID, a.GID = &st.UID, &st.GID
	}
	if flags.Permissions {
		mode := st.Mode & permissions
		a.Mode = &mode
	}
	if flags.Acmodtime {
		atime, mtime := int64(st.Atime), int64(st.Mtime)
		a.Atime, a.Mtime = &atime, &mtime
	}
	return a
}

// Filelist implements sftp.FileLister.
func (f *files) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch r.Method {
	case "List":
		h, err := f.agent.OpenDir(f.ctx, r.Filepath)
		if err != nil {
			return nil, reply(err)
		}
		return &directory{ctx: f.ctx, f: h}, nil
	case "Stat":
		e, err := f.agent.Stat(f.ctx, r.Filepath)
		return single{e}, reply(err)
	}
	return nil, sftp.ErrSSHFxOpUnsupported
}

// Lstat implements sftp.LstatFileLister.
func (f *files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	e, err := f.agent.Lstat(f.ctx, r.Filepath)
	return single{e}, reply(err)
}

// RealPath implements sftp.RealPathFileLister. A path that leads nowhere yet is only
// cleaned.
func (f *files) RealPath(p string) (string, error) {
	if !path.IsAbs(p) {
		p = path.Join(f.start, p)
	}
	p = path.Clean(p)
	resolved, err := f.agent.RealPath(f.ctx, p)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	return resolved, reply(err)
}

// Readlink implements sftp.ReadlinkFileLister.
func (f *files) Readlink(p string) (string, error) {
	target, err := f.agent.ReadLink(f.ctx, p)
	return target, reply(err)
}

// file is an open file. The server calls it from several goroutines, and the guest may
// run one operation on a handle at a time only.
type file struct {
	ctx context.Context
	mu  sync.Mutex
	f   *client.File
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.f.ReadAt(f.ctx, p, uint64(off))
	return n, reply(err)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, err := f.f.Writer(f.ctx, uint64(off))
	if err != nil {
		return 0, reply(err)
	}
	n, err := w.WriteContext(f.ctx, p)
	if end := w.Close(f.ctx); err == nil {
		err = end
	}
	if err != nil {
		return 0, reply(err)
	}
	return n, nil
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return reply(f.f.Close(f.ctx))
}

// directory lists the entries of an open directory in the guest's order.
type directory struct {
	ctx  context.Context
	mu   sync.Mutex
	f    *client.File
	rest []proto.FSEntry // received, not yet listed
}

// ListAt implements sftp.ListerAt. Offsets only ever go on from the last call.
func (d *directory) ListAt(out []os.FileInfo, _ int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.rest) == 0 {
		batch, err := d.f.ReadDir(d.ctx, uint32(len(out)))
		if err != nil {
			return 0, reply(err)
		}
		if len(batch) == 0 {
			return 0, io.EOF
		}
		d.rest = batch
	}
	n := 0
	for ; n < len(out) && n < len(d.rest); n++ {
		out[n] = info{d.rest[n]}
	}
	d.rest = d.rest[n:]
	return n, nil
}

func (d *directory) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return reply(d.f.Close(d.ctx))
}

// single is the list of one file.
type single struct{ e proto.FSEntry }

func (s single) ListAt(out []os.FileInfo, off int64) (int, error) {
	if off > 0 || len(out) == 0 {
		return 0, io.EOF
	}
	out[0] = info(s)
	return 1, io.EOF
}

// info is a file's metadata as os.FileInfo and sftp.FileInfoUidGid.
type info struct{ e proto.FSEntry }

func (i info) Name() string       { return path.Base(i.e.Path) }
func (i info) Size() int64        { return int64(i.e.Size) }
func (i info) ModTime() time.Time { return client.ModTime(i.e) }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return nil }
func (i info) Uid() uint32        { return i.e.UID } //nolint:revive // the interface's name
func (i info) Gid() uint32        { return i.e.GID } //nolint:revive // the interface's name

// Type and special bits of st_mode on Linux.
const (
	typeMask, typeSocket, typeLink, typeBlock, typeDir, typeChar, typeFIFO = 0o170000, 0o140000, 0o120000, 0o060000, 0o040000, 0o020000, 0o010000
	setUID, setGID, sticky                                                 = 0o4000, 0o2000, 0o1000
)

// Mode is the st_mode that the guest states, as Go has it.
func (i info) Mode() os.FileMode {
	m := os.FileMode(i.e.Mode & 0o777)
	for bit, mode := range map[uint32]os.FileMode{setUID: os.ModeSetuid, setGID: os.ModeSetgid, sticky: os.ModeSticky} {
		if i.e.Mode&bit != 0 {
			m |= mode
		}
	}
	switch i.e.Mode & typeMask {
	case typeSocket:
		m |= os.ModeSocket
	case typeLink:
		m |= os.ModeSymlink
	case typeBlock:
		m |= os.ModeDevice
	case typeDir:
		m |= os.ModeDir
	case typeChar:
		m |= os.ModeDevice | os.ModeCharDevice
	case typeFIFO:
		m |= os.ModeNamedPipe
	}
	return m
}
