//go:build linux

package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// newOwner is owner and mode of a file that the guest makes in dir.
func (c *call) newOwner(dir *node, mode uint32) (overlay, syscall.Errno) {
	v := overlay{uid: c.uid, gid: c.gid, mode: mode}
	if c.s.cfg.Stat == StatOff {
		return v, 0
	}
	h := dir.hint.Load()
	if h&hintKnown == 0 {
		var st unix.Statx_t
		if errno := statFD(dir.fd, &st); errno != 0 {
			return v, errno
		}
		o, known, errno := c.overlayOf(dir.fd, dir.kind)
		if errno != 0 {
			return v, errno
		}
		h = hintOf(c.s.virtual(&st, o, known))
		dir.hint.Store(h)
	}
	if h&hintSetID != 0 {
		v.gid = uint32(h & hintGIDMask)
		if mode&unix.S_IFMT == unix.S_IFDIR {
			v.mode |= unix.S_ISGID
		}
	}
	return v, 0
}

// makeFile makes a host file that stands for what v says, and describes it in c.st. It
// returns the open file.
func (c *call) makeFile(dir *node, name []byte, flags int, v overlay, content []byte) (int, syscall.Errno) {
	c.s.quota.begin()
	mode := uint32(0o600)
	if c.s.cfg.Stat == StatOff {
		mode = c.s.hostMode(unix.S_IFREG, v.mode)
	}
	fd, errno := c.open(func() (int, syscall.Errno) {
		return openBeneath(dir.fd, &name[0], flags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode)
	})
	if errno != 0 {
		return -1, errno
	}
	errno = c.finishFile(fd, v, content)
	if errno != 0 {
		_ = unlinkAt(dir.fd, &name[0], 0)
		_ = unix.Close(fd)
		return -1, errno
	}
	return fd, 0
}

// finishFile gives a file, which was just made, its content, owner and mode.
func (c *call) finishFile(fd int, v overlay, content []byte) syscall.Errno {
	if len(content) > 0 {
		c.segs = append(c.segs[:0], content)
		n, errno := writeV(fd, 0, c.segs, false)
		if errno != 0 {
			return errno
		}
		if n < uint64(len(content)) {
			return unix.ENOSPC
		}
	}
	if errno := c.own(fd, unix.S_IFREG, v); errno != 0 {
		return errno
	}
	return statFD(fd, &c.st)
}

// own gives an open file of the host's, which was just made, owner and mode.
func (c *call) own(fd int, kind uint32, v overlay) syscall.Errno {
	hostMode := c.s.hostMode(kind, v.mode)
	if c.s.cfg.Stat != StatOff {
		errno := c.setOverlayFD(fd, v)
		switch {
		case errno == errUnsupported && v.mode&unix.S_IFMT == kind:
			return fchmod(fd, hostMode)
		case errno != 0:
			return errno
		case c.s.cfg.Perms != PermsMirror:
			return 0
		}
	}
	// The process's umask was at work.
	return fchmod(fd, hostMode)
}

// shown is what the guest sees of a file that was just made, and that c.st describes.
func (c *call) shown(fd int, v overlay) overlay {
	if c.s.cfg.Stat == StatStrict {
		return v
	}
	o, known, errno := c.overlayFD(fd, uint32(c.st.Mode)&unix.S_IFMT)
	if errno != 0 {
		return v
	}
	return c.s.virtual(&c.st, o, known)
}

// parent holds the directory in which the guest makes a file.
func (c *call) parent(name []byte) (*node, syscall.Errno) {
	n, errno := c.holdDir(c.nodeID)
	if errno == 0 && n == c.s.table.root && !c.s.shares(name) {
		c.drop(n)
		return nil, unix.EACCES
	}
	return n, errno
}

// create serves CREATE: it makes a regular file unless it is there, and opens it.
func (c *call) create() syscall.Errno {
	a := c.fixed(16)
	if a == nil {
		return unix.EINVAL
	}
	guest, mode, umask, in := le.Uint32(a), le.Uint32(a[4:]), le.Uint32(a[8:]), le.Uint32(a[12:])
	name, _, errno := c.name(16)
	if errno != 0 {
		return errno
	}
	flags, errno := openFlags(guest)
	if errno != 0 {
		return errno
	}
	dir, errno := c.parent(name)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	v, errno := c.newOwner(dir, unix.S_IFREG|mode&^umask&0o7777)
	if errno != 0 {
		return errno
	}
	fd, errno := c.makeFile(dir, name, flags&^unix.O_TRUNC, v, nil)
	if errno == unix.EEXIST && guest&unix.O_EXCL == 0 {
		return c.openExisting(dir, name, flags, in)
	}
	if errno != 0 {
		return errno
	}
	c.s.wrote()
	n, errno := c.enter(dir, name, c.shown(fd, v))
	if errno != 0 {
		_ = unlinkAt(dir.fd, &name[0], 0)
		_ = unix.Close(fd)
		return errno
	}
	n.setSize(0)
	h, errno := c.s.table.addHandle(n, fd, flags, false)
	if errno != 0 {
		c.s.table.forget(n.id, 1)
		return errno
	}
	c.answerOpen(h, 0)
	return 0
}

// openExisting is CREATE of a file that was there.
func (c *call) openExisting(dir *node, name []byte, flags int, in uint32) syscall.Errno {
	n, errno := c.lookupIn(dir, name)
	if errno != 0 {
		return errno
	}
	h, cached, errno := c.openNode(n.id, flags, in)
	if errno != 0 {
		c.s.table.forget(n.id, 1)
		return errno
	}
	c.answerOpen(h, cached)
	return 0
}

// mknod serves MKNOD. Special files are special only for the guest.
func (c *call) mknod() syscall.Errno {
	a := c.fixed(16)
	if a == nil {
		return unix.EINVAL
	}
	mode, rdev, umask := le.Uint32(a), le.Uint32(a[4:]), le.Uint32(a[8:])
	name, _, errno := c.name(16)
	if errno != 0 {
		return errno
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		rdev = 0
	case unix.S_IFCHR, unix.S_IFBLK:
	case unix.S_IFIFO, unix.S_IFSOCK:
		rdev = 0
	default:
		return unix.EINVAL
	}
	if mode&unix.S_IFMT != unix.S_IFREG && c.s.cfg.Stat == StatOff {
		return unix.EOPNOTSUPP
	}
	dir, errno := c.parent(name)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	v, errno := c.newOwner(dir, mode&unix.S_IFMT|mode&^umask&0o7777)
	if errno != 0 {
		return errno
	}
	v.rdev = rdev
	return c.makeEntry(dir, name, v, nil)
}

// makeEntry makes a file that is not opened.
func (c *call) makeEntry(dir *node, name []byte, v overlay, content []byte) syscall.Errno {
	fd, errno := c.makeFile(dir, name, unix.O_WRONLY, v, content)
	if errno != 0 {
		return errno
	}
	c.s.wrote()
	_, errno = c.enter(dir, name, c.shown(fd, v))
	_ = unix.Close(fd)
	return errno
}

// mkdir serves MKDIR.
func (c *call) mkdir() syscall.Errno {
	a := c.fixed(8)
	if a == nil {
		return unix.EINVAL
	}
	mode, umask := le.Uint32(a), le.Uint32(a[4:])
	name, _, errno := c.name(8)
	if errno != 0 {
		return errno
	}
	dir, errno := c.parent(name)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	if c.s.cfg.Only != "" {
		return unix.EACCES
	}
	v, errno := c.newOwner(dir, unix.S_IFDIR|mode&^umask&0o7777)
	if errno != 0 {
		return errno
	}
	if errno := mkdirAt(dir.fd, &name[0], 0o700); errno != 0 {
		return errno
	}
	v, errno = c.finishDir(dir, name, v)
	if errno != 0 {
		_ = unlinkAt(dir.fd, &name[0], unix.AT_REMOVEDIR)
		return errno
	}
	c.s.wrote()
	_, errno = c.enter(dir, name, v)
	return errno
}

// finishDir gives a directory, which was just made, owner and mode, and returns those
// that the guest sees.
func (c *call) finishDir(dir *node, name []byte, v overlay) (overlay, syscall.Errno) {
	if c.s.cfg.Stat == StatStrict && c.s.cfg.Perms != PermsMirror {
		// Its own name is as good as a descriptor: a link there is not followed.
		if errno := c.setOverlayAt(dir.fd, name, v); errno != 0 {
			return v, errno
		}
		errno := statAt(dir.fd, &name[0], &c.st)
		if errno == 0 && uint32(c.st.Mode)&unix.S_IFMT != unix.S_IFDIR {
			errno = unix.ESTALE
		}
		return v, errno
	}
	fd, errno := c.open(func() (int, syscall.Errno) {
		return openBeneath(dir.fd, &name[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	})
	if errno != 0 {
		return v, errno
	}
	defer func() { _ = unix.Close(fd) }()
	if errno := c.own(fd, unix.S_IFDIR, v); errno != 0 {
		return v, errno
	}
	if errno := statFD(fd, &c.st); errno != 0 {
		return v, errno
	}
	return c.shown(fd, v), 0
}

// symlink serves SYMLINK.
func (c *call) symlink() syscall.Errno {
	name, next, errno := c.name(0)
	if errno != 0 {
		return errno
	}
	target, _, errno := c.text(next)
	switch {
	case errno != 0:
		return errno
	case len(target) == 1:
		return unix.ENOENT
	case len(target)-1 > maxTarget:
		return unix.ENAMETOOLONG
	}
	dir, errno := c.parent(name)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	if c.s.cfg.Only != "" {
		return unix.EACCES
	}
	v, errno := c.newOwner(dir, unix.S_IFLNK|0o777)
	if errno != 0 {
		return errno
	}
	if c.s.cfg.Stat == StatStrict {
		return c.makeLinkFile(dir, name, v, target[:len(target)-1])
	}
	if errno := symlinkAt(&target[0], dir.fd, &name[0]); errno != 0 {
		return errno
	}
	c.s.wrote()
	_, errno = c.lookupIn(dir, name)
	return errno
}

// makeLinkFile makes the regular file that stands for a symbolic link.
func (c *call) makeLinkFile(dir *node, name []byte, v overlay, target []byte) syscall.Errno {
	charged, errno := c.s.quota.charge(uint64(len(target)))
	if errno != 0 {
		return errno
	}
	if errno = c.makeEntry(dir, name, v, target); errno != 0 {
		c.s.quota.refund(charged)
	}
	return errno
}

// readlink serves READLINK.
func (c *call) readlink() syscall.Errno {
	n, errno := c.hold(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	buf := c.argBuf[:maxTarget+1]
	var length int
	switch n.kind {
	case unix.S_IFLNK:
		length, errno = readLink(n.fd, &emptyPath[0], buf)
	case unix.S_IFREG:
		length, errno = c.readLinkFile(n, buf)
	default:
		return unix.EINVAL
	}
	if errno != 0 {
		return errno
	}
	if length > maxTarget {
		return unix.EIO
	}
	if uint64(length) > c.room() {
		return unix.EINVAL
	}
	c.put(outHeaderSize, buf[:length])
	c.wrote = uint32(length)
	return 0
}

// readLinkFile reads the file that stands for a symbolic link.
func (c *call) readLinkFile(n *node, buf []byte) (int, syscall.Errno) {
	o, known, errno := c.overlayOf(n.fd, n.kind)
	if errno != 0 {
		return 0, errno
	}
	if !known || o.mode&unix.S_IFMT != unix.S_IFLNK {
		return 0, unix.EINVAL
	}
	fd, errno := c.open(func() (int, syscall.Errno) { return openPath(c.procPath(n.fd), unix.O_RDONLY|unix.O_NONBLOCK) })
	if errno != 0 {
		return 0, errno
	}
	defer func() { _ = unix.Close(fd) }()
	c.segs = append(c.segs[:0], buf)
	length, errno := readV(fd, 0, c.segs)
	return int(length), errno
}

// tmpfile serves TMPFILE: it makes a file without a name.
func (c *call) tmpfile() syscall.Errno {
	a := c.fixed(16)
	if a == nil {
		return unix.EINVAL
	}
	guest, mode, umask := le.Uint32(a), le.Uint32(a[4:]), le.Uint32(a[8:])
	flags, errno := openFlags(guest)
	if errno != 0 {
		return errno
	}
	if !writes(flags) {
		return unix.EINVAL
	}
	dir, errno := c.holdDir(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	if c.s.cfg.Only != "" {
		return unix.EACCES
	}
	v, errno := c.newOwner(dir, unix.S_IFREG|mode&^umask&0o7777)
	if errno != 0 {
		return errno
	}
	exclusive := int(guest) & unix.O_EXCL // it can never get a name
	fd, errno := c.open(func() (int, syscall.Errno) {
		return openBeneath(dir.fd, &dot[0], flags&^unix.O_TRUNC|exclusive|unix.O_TMPFILE, 0o600)
	})
	if errno != 0 {
		return errno
	}
	if errno = c.finishFile(fd, v, nil); errno != 0 {
		_ = unix.Close(fd)
		return errno
	}
	c.s.wrote()
	n, errno := c.enter(dir, dotName, c.shown(fd, v))
	if errno != 0 {
		_ = unix.Close(fd)
		return errno
	}
	n.setSize(0)
	h, errno := c.s.table.addHandle(n, fd, flags, false)
	if errno != 0 {
		c.s.table.forget(n.id, 1)
		return errno
	}
	t := &c.s.table
	t.lock()
	t.orphan(n)
	t.unlock()
	c.answerOpen(h, 0)
	return 0
}

var (
	dot     = [2]byte{'.'}
	dotName = dot[:]
)
