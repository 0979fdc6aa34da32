//go:build linux

package passthrough

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openFlags are the host's flags for those of the guest. What names, creation or the
// guest's own page cache are about is left out.
func openFlags(guest uint32) (int, syscall.Errno) {
	flags := int(guest)
	if flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return 0, unix.EINVAL
	}
	const known = unix.O_ACCMODE | unix.O_TRUNC | unix.O_DSYNC | unix.O_SYNC
	return flags&known | unix.O_NONBLOCK | unix.O_NOCTTY, 0
}

func writes(flags int) bool { return flags&unix.O_ACCMODE != unix.O_RDONLY }

// openFile serves OPEN.
func (c *call) openFile() syscall.Errno {
	a := c.fixed(8)
	if a == nil {
		return unix.EINVAL
	}
	flags, errno := openFlags(le.Uint32(a))
	if errno != 0 {
		return errno
	}
	h, cached, errno := c.openNode(c.nodeID, flags, le.Uint32(a[4:]))
	if errno == 0 {
		c.answerOpen(h, cached)
	}
	return errno
}

// openNode opens a regular file; in are the flags of FUSE itself.
func (c *call) openNode(id uint64, flags int, in uint32) (h *handle, out uint32, errno syscall.Errno) {
	if c.s.cfg.ReadOnly && (writes(flags) || flags&unix.O_TRUNC != 0) {
		return nil, 0, unix.EROFS
	}
	if writes(flags) {
		c.s.quota.begin()
	}
	n, errno := c.hold(id)
	if errno != 0 {
		return nil, 0, errno
	}
	defer c.drop(n)
	switch n.kind {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, 0, unix.EISDIR
	case unix.S_IFLNK:
		return nil, 0, unix.ELOOP
	default:
		return nil, 0, unix.ENXIO // the guest has such files itself
	}
	fd, errno := c.open(func() (int, syscall.Errno) { return openPath(c.procPath(n.fd), flags) })
	if errno != 0 {
		return nil, 0, errno
	}
	if flags&unix.O_TRUNC != 0 {
		n.setSize(0)
		c.s.wrote()
		if in&openInKillPrivs != 0 {
			errno = c.killPrivileges(n, fd)
		}
	}
	var st unix.Statx_t
	if errno == 0 {
		errno = statFD(fd, &st)
	}
	if errno != 0 {
		_ = unix.Close(fd)
		return nil, 0, errno
	}
	n.learnSize(&st)
	h, errno = c.s.table.addHandle(n, fd, flags, false)
	if errno == 0 && n.unchanged(&st) {
		out = openKeepCache
	}
	return h, out, errno
}

// settled is how old a change must be for the next one to have another time: that of a
// file has the resolution of the host's clock tick.
const settled = 50 * time.Millisecond

// unchanged reports that the content of a file, which is being opened, is that of the
// last time, so that what the guest has in its page cache is still good.
func (n *node) unchanged(st *unix.Statx_t) bool {
	version := contentOf(st)
	if n.seen.Swap(version) == version && version != 0 {
		return true
	}
	return false
}

// contentOf tells versions of a file's content apart, 0 if it may be changing right now.
func contentOf(st *unix.Statx_t) uint64 {
	changed := time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))
	if age := time.Since(changed); age < settled {
		return 0
	}
	v := uint64(14695981039346656037)
	for _, x := range [...]uint64{st.Size, uint64(st.Mtime.Sec), uint64(st.Mtime.Nsec), uint64(st.Ctime.Sec), uint64(st.Ctime.Nsec)} {
		for range 8 {
			v = (v ^ x&0xff) * 1099511628211
			x >>= 8
		}
	}
	return v | 1
}

// answerOpen makes the part of an answer that tells the guest its handle.
func (c *call) answerOpen(h *handle, flags uint32) {
	b := c.grow(openOutSize)
	le.PutUint64(b[0:], h.id)
	le.PutUint32(b[8:], flags)
}

// flush serves FLUSH, at each close of a descriptor in the guest. Only on file systems
// that write when a file is closed, and with locks, is there anything to do; else the
// guest is told not to ask again.
func (c *call) flush() syscall.Errno {
	if !c.s.flushes {
		return unix.ENOSYS
	}
	a := c.fixed(24)
	if a == nil {
		return unix.EINVAL
	}
	h, errno := c.useFile(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	if c.s.cfg.HostLocks {
		c.s.locks.end(lockKey{c.nodeID, le.Uint64(a[16:]), false})
	}
	fd, err := unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	return errnoOf(unix.Close(fd))
}

// fsync serves FSYNC and FSYNCDIR.
func (c *call) fsync() syscall.Errno {
	a := c.fixed(16)
	if a == nil {
		return unix.EINVAL
	}
	h, errno := c.useHandle(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	for {
		var err error
		if le.Uint32(a[8:])&fsyncDataOnly != 0 {
			err = unix.Fdatasync(h.fd)
		} else {
			err = unix.Fsync(h.fd)
		}
		if err != unix.EINTR {
			return errnoOf(err)
		}
	}
}
