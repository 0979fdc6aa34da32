//go:build linux

package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setattrIn is struct fuse_setattr_in.
type setattrIn struct {
	valid    uint32
	fh       uint64
	size     uint64
	times    [2]unix.Timespec // of access and of modification
	mode     uint32
	uid, gid uint32
}

func parseSetattr(b []byte) setattrIn {
	a := setattrIn{
		valid: le.Uint32(b[0:]), fh: le.Uint64(b[8:]), size: le.Uint64(b[16:]),
		mode: le.Uint32(b[68:]) & 0o7777, uid: le.Uint32(b[76:]), gid: le.Uint32(b[80:]),
	}
	a.times[0] = timespec(b[32:], b[56:], a.valid, setattrAtime, setattrAtimeNow)
	a.times[1] = timespec(b[40:], b[60:], a.valid, setattrMtime, setattrMtimeNow)
	return a
}

func timespec(sec, nsec []byte, valid, set, now uint32) unix.Timespec {
	switch {
	case valid&set == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	// What is out of range is the kernel's to refuse; but no number may mean "now".
	return unix.Timespec{Sec: int64(le.Uint64(sec)), Nsec: int64(le.Uint32(nsec) % 1e9)}
}

// setattr serves SETATTR.
func (c *call) setattr() syscall.Errno {
	b := c.fixed(88)
	if b == nil {
		return unix.EINVAL
	}
	a := parseSetattr(b)
	n, errno := c.hold(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	if n == c.s.table.root && c.s.cfg.Only != "" {
		return unix.EPERM
	}
	if a.valid&setattrSize != 0 {
		if errno := c.setSize(n, &a); errno != 0 {
			return errno
		}
	}
	if a.valid&(setattrAtime|setattrMtime) != 0 {
		if errno := timesPath(c.procPath(n.fd), &a.times); errno != 0 {
			return errno
		}
	}
	v, errno := c.describe(n)
	if errno != 0 {
		return errno
	}
	if a.valid&(setattrMode|setattrUID|setattrGID) != 0 || a.valid&setattrSize != 0 && a.valid&setattrKillPrivs != 0 {
		if errno := c.setOwner(n, v, &a); errno != 0 {
			return errno
		}
		if v, errno = c.describe(n); errno != 0 {
			return errno
		}
	}
	c.answerAttr(&c.st, v)
	return 0
}

// setSize changes the length of a file.
func (c *call) setSize(n *node, a *setattrIn) syscall.Errno {
	switch {
	case n.kind == unix.S_IFDIR:
		return unix.EISDIR
	case n.kind != unix.S_IFREG || int64(a.size) < 0:
		return unix.EINVAL
	}
	c.s.quota.begin()
	charged, errno := c.s.quota.extend(n, a.size, n.fd)
	if errno != 0 {
		return errno
	}
	errno = unix.EBADF
	if a.valid&setattrFH != 0 {
		// A file that is open for writing may have become read-only meanwhile.
		if h, e := c.useFile(n.id, a.fh); e == 0 {
			if h.writable() {
				errno = ftruncate(h.fd, int64(a.size))
			}
			c.endHandle(h)
		}
	}
	if errno == unix.EBADF {
		errno = truncatePath(c.procPath(n.fd), int64(a.size))
	}
	if errno != 0 {
		c.s.quota.refund(charged)
		return errno
	}
	n.setSize(a.size)
	c.s.wrote()
	return 0
}

// setOwner changes the owner and the mode of n, which are v now.
func (c *call) setOwner(n *node, v overlay, a *setattrIn) syscall.Errno {
	was := v
	owner := a.valid&(setattrUID|setattrGID) != 0
	if a.valid&setattrUID != 0 {
		v.uid = a.uid
	}
	if a.valid&setattrGID != 0 {
		v.gid = a.gid
	}
	switch {
	case a.valid&setattrMode != 0:
		v.mode = v.mode&unix.S_IFMT | a.mode
	case owner || a.valid&setattrKillPrivs != 0:
		v.mode = withoutPrivileges(v.mode)
	}
	if c.s.cfg.Stat == StatOff {
		if owner && (v.uid != was.uid || v.gid != was.gid) {
			return unix.EPERM
		}
		if v.mode == was.mode {
			return 0
		}
		return c.chmodHost(n.fd, n.kind, v.mode)
	}
	if !hasOverlay(n.kind) {
		if a.valid&setattrMode != 0 {
			return unix.EOPNOTSUPP
		}
		return 0 // the owner of a link of the host's matters to nobody
	}
	if c.s.cfg.Perms == PermsMirror && a.valid&setattrMode != 0 {
		if errno := c.chmodHost(n.fd, n.kind, v.mode); errno != 0 {
			return errno
		}
	}
	return c.changeOverlay(n, v)
}

// changeOverlay stores v for a held node.
func (c *call) changeOverlay(n *node, v overlay) syscall.Errno {
	errno := c.setOverlay(c.procPath(n.fd), v)
	switch errno {
	case 0:
		n.hint.Store(hintOf(v))
	case unix.EACCES, unix.EPERM:
		return c.forceOverlay(n, v, errno)
	case errUnsupported:
		return c.chmodHost(n.fd, n.kind, v.mode)
	}
	return errno
}

// forceOverlay stores v for a file that its own user may not write, and gives errno if
// that cannot help.
func (c *call) forceOverlay(n *node, v overlay, errno syscall.Errno) syscall.Errno {
	var st unix.Statx_t
	if e := statFD(n.fd, &st); e != 0 || st.Uid != c.s.hostUID || st.Mode&0o200 != 0 {
		return errno
	}
	mode := uint32(st.Mode) & 0o7777
	if e := chmodPath(c.procPath(n.fd), mode|0o200); e != 0 {
		return errno
	}
	errno = c.setOverlay(c.procPath(n.fd), v)
	if e := chmodPath(c.procPath(n.fd), mode); errno == 0 {
		errno = e
	}
	if errno == 0 {
		n.hint.Store(hintOf(v))
	}
	return errno
}

// chmodHost gives a host file permissions of the guest.
func (c *call) chmodHost(fd int, kind, mode uint32) syscall.Errno {
	if !hasOverlay(kind) {
		return unix.EOPNOTSUPP
	}
	return chmodPath(c.procPath(fd), c.s.hostMode(kind, mode))
}

// hostMode is the mode of a host file to which the guest gives mode: one that leaves its
// owner the access that the server needs. The guest never makes a program of the host run
// with privileges.
func (s *Server) hostMode(kind, mode uint32) uint32 {
	floor, mask := uint32(0o600), uint32(0o777)
	if kind == unix.S_IFDIR {
		floor = 0o700
		if s.cfg.Stat == StatOff {
			mask = 0o3777
		}
	}
	if s.cfg.Stat != StatOff && s.cfg.Perms != PermsMirror && s.cfg.Stat != StatRelaxed {
		return floor
	}
	return mode&mask | floor
}

// withoutPrivileges is a mode after a write, or a change of the owner: without
// set-user-ID, and without set-group-ID if that is not mandatory locking.
func withoutPrivileges(mode uint32) uint32 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode
	}
	mode &^= unix.S_ISUID
	if mode&0o010 != 0 {
		mode &^= unix.S_ISGID
	}
	return mode
}

// killPrivileges is what a write by a user without privileges does to the mode of a file,
// which is open.
func (c *call) killPrivileges(n *node, fd int) syscall.Errno {
	if h := n.hint.Load(); h&hintKnown != 0 && h&hintSetID == 0 {
		return 0
	}
	var st unix.Statx_t
	if errno := statFD(fd, &st); errno != 0 {
		return errno
	}
	o, known, errno := c.overlayFD(fd, n.kind)
	if errno != 0 {
		return errno
	}
	v := c.s.virtual(&st, o, known)
	n.hint.Store(hintOf(v))
	mode := withoutPrivileges(v.mode)
	if mode == v.mode {
		return 0
	}
	v.mode = mode
	if c.s.cfg.Stat == StatOff {
		return fchmod(fd, v.mode&0o7777)
	}
	errno = c.setOverlayFD(fd, v)
	if errno == errUnsupported {
		errno = fchmod(fd, c.s.hostMode(n.kind, v.mode))
	}
	if errno == 0 {
		n.hint.Store(hintOf(v))
	}
	return errno
}

func ftruncate(fd int, length int64) syscall.Errno {
	for {
		if errno := errnoOf(unix.Ftruncate(fd, length)); errno != unix.EINTR {
			return errno
		}
	}
}

func fchmod(fd int, mode uint32) syscall.Errno { return errnoOf(unix.Fchmod(fd, mode)) }

// errnoOf is the number of an error of package unix.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	return unix.EIO
}
