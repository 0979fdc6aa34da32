//go:build linux

package passthrough

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Server is a FUSE server over a directory. Serve and SetOwner are safe for concurrent
// use; the other methods must not run beside Serve.
type Server struct {
	cfg     Config
	table   table
	quota   quota
	locks   locks
	log     *slog.Logger
	hostUID uint32 // of this process
	rootDev uint64
	blind   atomic.Bool // the file system cannot tell whether a read would wait
	xattrAt bool        // getXattrAt and its kin are there
	// flushes says that closing a file in the guest matters to the host.
	flushes bool

	owner   atomic.Pointer[Owner]
	ready   atomic.Bool // there is a session
	dirty   atomic.Bool // written since the last SYNCFS
	calls   sync.Pool
	closing chan struct{}
	close   sync.Once
}

// New opens a directory to serve it. The error wraps ErrConfig, ErrNoAttributes or that
// of the system.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s := &Server{cfg: cfg, log: cfg.Logger, hostUID: uint32(os.Geteuid()), closing: make(chan struct{})}
	s.calls.New = func() any { return &call{s: s} }
	s.quota.on, s.quota.limit, s.quota.count = cfg.Quota != 0, max(cfg.Quota, 0), s.countShare
	if cfg.Owner != nil {
		s.SetOwner(*cfg.Owner)
	}
	fd, err := openRoot(&cfg)
	if err != nil {
		return nil, err
	}
	if err := s.open(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("share %s: %w", cfg.Root, err)
	}
	return s, nil
}

// openRoot opens the directory to share.
func openRoot(cfg *Config) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS}
	if cfg.FollowSymlinks {
		how.Resolve = 0
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, cfg.Root, &how)
	switch err {
	case nil:
		return fd, nil
	case unix.ELOOP:
		return -1, fmt.Errorf("%w: %s leads through a symbolic link: name the directory itself, or share it with follow-root-symlinks", ErrConfig, cfg.Root)
	case unix.ENOSYS:
		return -1, fmt.Errorf("share %s: the host's kernel has no openat2: Linux 5.6 or later is needed", cfg.Root)
	}
	return -1, fmt.Errorf("share %s: %w", cfg.Root, err)
}

// open makes fd the root.
func (s *Server) open(fd int) error {
	var st unix.Statx_t
	if errno := statFD(fd, &st); errno != 0 {
		return errno
	}
	if err := unix.Access("/proc/self/fd", unix.X_OK); err != nil {
		return fmt.Errorf("/proc is not mounted: %w", err)
	}
	if s.cfg.Stat == StatStrict {
		switch errno := probe(fd); errno {
		case 0:
		case unix.EOPNOTSUPP:
			return ErrNoAttributes
		case unix.EROFS, unix.EACCES, unix.EPERM:
			// It cannot be written anyway, so that nothing will have to be stored.
		default:
			return errno
		}
	}
	if s.cfg.Only != "" {
		if err := s.checkOnly(fd); err != nil {
			return err
		}
	}
	var fsInfo unix.Statfs_t
	if err := unix.Fstatfs(fd, &fsInfo); err != nil {
		return err
	}
	s.flushes = s.cfg.HostLocks || writesAtClose(int64(fsInfo.Type))
	s.xattrAt = s.cfg.Stat != StatOff && hasXattrAt(fd)
	s.rootDev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	root := &node{id: rootID, file: identityOf(&st), kind: unix.S_IFDIR, lookups: 1, fd: fd, ring: -1}
	s.table = table{
		max: s.cfg.Nodes, budget: s.cfg.Descriptors, handles: s.cfg.Handles,
		root: root, nextID: rootID + 1, nextHandle: 1, fickle: s.cfg.Only != "",
	}
	s.table.lock()
	s.table.clear()
	s.table.unlock()
	return nil
}

// writesAtClose reports a file system that may find out at close(2) that it cannot
// store what was written.
func writesAtClose(magic int64) bool {
	switch magic {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC:
		return true
	}
	return false
}

// SetOwner names the guest user to whom the files of this process's user belong, see
// Config.MapOwner.
func (s *Server) SetOwner(who Owner) { s.owner.Store(&who) }

// Serve carries out one request, as the virtio-fs device wants it: in and out are guest
// memory, header is a copy of the first bytes of in. It returns the length of the answer
// in out, and again if the request must be tried again: patiently, because it has to wait
// for a disk, or later, if that was patient already.
func (s *Server) Serve(header *[inHeaderSize]byte, in, out [][]byte, patient bool) (n uint32, again bool) {
	c := s.calls.Get().(*call)
	c.patient = patient
	errno := c.begin(header, in, out)
	if errno == 0 {
		errno = c.dispatch()
	}
	switch {
	case c.again:
		again = true
	case !c.silent():
		n = c.answer(errno)
	}
	c.end()
	s.calls.Put(c)
	return n, again
}

// silent reports a request that has no answer.
func (c *call) silent() bool {
	return c.op == opForget || c.op == opBatchForget || c.op == opInterrupt
}

// dispatch carries out the request.
func (c *call) dispatch() syscall.Errno {
	switch {
	case c.op == opInit:
		return c.init()
	case !c.s.ready.Load():
		return unix.EIO
	case c.s.cfg.ReadOnly && c.op.changes():
		return unix.EROFS
	}
	switch c.op {
	case opLookup:
		return c.lookup()
	case opForget:
		c.forget()
	case opBatchForget:
		c.batchForget()
	case opGetattr:
		return c.getattr()
	case opStatx:
		return c.statx()
	case opSetattr:
		return c.setattr()
	case opReadlink:
		return c.readlink()
	case opSymlink:
		return c.symlink()
	case opMknod:
		return c.mknod()
	case opMkdir:
		return c.mkdir()
	case opUnlink, opRmdir:
		return c.unlink()
	case opRename, opRename2:
		return c.rename()
	case opLink:
		return c.link()
	case opAccess:
		return c.access()
	case opStatfs:
		return c.statfs()
	case opSyncfs:
		return c.syncfs()
	case opDestroy:
		c.s.endSession()
	default:
		return c.dispatchOpen()
	}
	return 0
}

// dispatchOpen carries out requests about open files and attributes.
func (c *call) dispatchOpen() syscall.Errno {
	switch c.op {
	case opOpen:
		return c.openFile()
	case opCreate:
		return c.create()
	case opTmpfile:
		return c.tmpfile()
	case opRead:
		return c.read()
	case opWrite:
		return c.write()
	case opFlush:
		return c.flush()
	case opFsync, opFsyncdir:
		return c.fsync()
	case opRelease, opReleasedir:
		return c.releaseFile()
	case opOpendir:
		return c.opendir()
	case opReaddir, opReaddirplus:
		return c.readdir()
	case opFallocate:
		return c.fallocate()
	case opLseek:
		return c.lseek()
	case opCopyFileRange:
		return c.copyFileRange()
	case opGetxattr:
		return c.getxattr()
	case opListxattr:
		return c.listxattr()
	case opSetxattr:
		return c.setxattr()
	case opRemovexattr:
		return c.removexattr()
	case opGetlk, opSetlk, opSetlkw:
		return c.lock()
	case opInterrupt:
		c.interrupt()
		return 0
	case opIoctl:
		return unix.ENOTTY
	}
	return unix.ENOSYS
}

// changes reports an operation that a read-only share refuses whatever it is about. OPEN
// depends on its flags.
func (o opcode) changes() bool {
	switch o {
	case opSetattr, opSymlink, opMknod, opMkdir, opUnlink, opRmdir, opRename, opRename2, opLink, opCreate, opTmpfile,
		opWrite, opFallocate, opCopyFileRange, opSetxattr, opRemovexattr:
		return true
	}
	return false
}

// wrote notes that there is something to make durable.
func (s *Server) wrote() {
	if !s.dirty.Load() {
		s.dirty.Store(true)
	}
}

// temporaryName is a name that no file has, with its NUL.
func (s *Server) temporaryName() []byte {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return append([]byte(".msb-"+hex.EncodeToString(b[:])), 0)
}

// endSession forgets what the guest knows and has open.
func (s *Server) endSession() {
	s.ready.Store(false)
	s.table.lock()
	s.table.clear()
	s.table.unlock()
	s.locks.clear()
}

// Reset ends the session: the driver is gone.
func (s *Server) Reset() { s.endSession() }

// Close frees everything. It is idempotent; nothing may be called after it.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		close(s.closing)
		s.quota.done.Wait()
		s.endSession()
		err = unix.Close(s.table.root.fd)
	})
	return err
}
