//go:build linux

package passthrough

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is the owner of files that are not the guest's.
const nobody = 65534

// virtual is owner, mode with type, and device number of a file as the guest sees them.
func (s *Server) virtual(st *unix.Statx_t, o overlay, known bool) overlay {
	if known {
		if o.mode&unix.S_IFMT == 0 {
			o.mode |= uint32(st.Mode) & unix.S_IFMT
		}
		return o
	}
	v := overlay{uid: st.Uid, gid: st.Gid, mode: uint32(st.Mode), rdev: deviceNumber(st)}
	if s.cfg.MapOwner && s.cfg.Stat != StatOff {
		v.uid, v.gid = nobody, nobody
		if st.Uid == s.hostUID {
			if who := s.owner.Load(); who != nil {
				v.uid, v.gid = who.UID, who.GID
			} else {
				v.uid, v.gid = 0, 0
			}
		}
	}
	return v
}

// deviceNumber is st_rdev as the guest's kernel decodes it.
func deviceNumber(st *unix.Statx_t) uint32 {
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		return st.Rdev_minor&0xff | st.Rdev_major<<8 | st.Rdev_minor&^0xff<<12
	}
	return 0
}

// A hint is what a node remembers of the owner and mode that the guest sees: that it is
// known at all, whether there are set-user-ID or set-group-ID bits, and the group.
const (
	hintKnown   = 1 << 63
	hintSetID   = 1 << 62 // of a file: set-user-ID or set-group-ID; of a directory: the latter
	hintGIDMask = 1<<32 - 1
)

func hintOf(v overlay) uint64 {
	h := uint64(v.gid) | hintKnown
	bits := uint32(unix.S_ISUID | unix.S_ISGID)
	if v.mode&unix.S_IFMT == unix.S_IFDIR {
		bits = unix.S_ISGID
	}
	if v.mode&bits != 0 {
		h |= hintSetID
	}
	return h
}

// attr encodes struct fuse_attr.
func (s *Server) attr(b []byte, st *unix.Statx_t, v overlay) {
	le.PutUint64(b[0:], s.inode(st))
	le.PutUint64(b[8:], st.Size)
	le.PutUint64(b[16:], st.Blocks)
	le.PutUint64(b[24:], uint64(st.Atime.Sec))
	le.PutUint64(b[32:], uint64(st.Mtime.Sec))
	le.PutUint64(b[40:], uint64(st.Ctime.Sec))
	le.PutUint32(b[48:], st.Atime.Nsec)
	le.PutUint32(b[52:], st.Mtime.Nsec)
	le.PutUint32(b[56:], st.Ctime.Nsec)
	le.PutUint32(b[60:], v.mode)
	le.PutUint32(b[64:], st.Nlink)
	le.PutUint32(b[68:], v.uid)
	le.PutUint32(b[72:], v.gid)
	le.PutUint32(b[76:], v.rdev)
	le.PutUint32(b[80:], blockSize)
	le.PutUint32(b[84:], 0)
}

// blockSize is the unit of the host's page cache.
const blockSize = 4096

// inode is the inode number that the guest sees. The guest takes the share for one file
// system: numbers of other file systems that are mounted below the root are marked, so
// that they rarely meet those of the root's.
func (s *Server) inode(st *unix.Statx_t) uint64 {
	dev := unix.Mkdev(st.Dev_major, st.Dev_minor)
	if dev == s.rootDev {
		return st.Ino
	}
	return st.Ino ^ (dev * 0x9e3779b97f4a7c15 &^ (1<<40 - 1))
}

// timeout is how long the guest may believe an attribute.
func (s *Server) timeout() time.Duration {
	if s.cfg.MapOwner && s.owner.Load() == nil {
		return 0 // owners are about to become known
	}
	return s.cfg.Timeout
}

// answerAttr makes the answer of GETATTR and SETATTR.
func (c *call) answerAttr(st *unix.Statx_t, v overlay) {
	b := c.grow(attrOutSize)
	d := c.s.timeout()
	le.PutUint64(b[0:], uint64(d/time.Second))
	le.PutUint32(b[8:], uint32(d%time.Second))
	c.s.attr(b[16:], st, v)
}

// putEntry encodes struct fuse_entry_out.
func (s *Server) putEntry(b []byte, n *node, st *unix.Statx_t, v overlay) {
	d := s.timeout()
	le.PutUint64(b[0:], n.id)
	le.PutUint64(b[8:], 0) // generation: no number of a node is used twice
	le.PutUint64(b[16:], uint64(d/time.Second))
	le.PutUint64(b[24:], uint64(d/time.Second))
	le.PutUint32(b[32:], uint32(d%time.Second))
	le.PutUint32(b[36:], uint32(d%time.Second))
	s.attr(b[40:], st, v)
}

// enter makes the answer for a name that c.st describes, which leads to the node that it
// returns.
func (c *call) enter(dir *node, name []byte, v overlay) (*node, syscall.Errno) {
	n, errno := c.s.table.see(dir, name, &c.st)
	if errno != 0 {
		return nil, errno
	}
	n.hint.Store(hintOf(v))
	n.learnSize(&c.st)
	c.s.putEntry(c.grow(entryOutSize), n, &c.st, v)
	return n, 0
}

// describe reads the attributes of a held node into c.st.
func (c *call) describe(n *node) (overlay, syscall.Errno) {
	if errno := statFD(n.fd, &c.st); errno != 0 {
		return overlay{}, errno
	}
	if n == c.s.table.root && c.s.cfg.Only != "" {
		return c.s.soleRoot(), 0
	}
	o, known, errno := c.overlayOf(n.fd, n.kind)
	if errno != 0 {
		return o, errno
	}
	v := c.s.virtual(&c.st, o, known)
	n.hint.Store(hintOf(v))
	n.learnSize(&c.st)
	return v, 0
}

// getattr serves GETATTR.
func (c *call) getattr() syscall.Errno {
	if len(c.args) < 16 {
		return unix.EINVAL
	}
	n, errno := c.hold(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	v, errno := c.describe(n)
	if errno == 0 {
		c.answerAttr(&c.st, v)
	}
	return errno
}

// statx serves STATX, which adds the time of birth.
func (c *call) statx() syscall.Errno {
	if len(c.args) < 24 {
		return unix.EINVAL
	}
	n, errno := c.hold(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	v, errno := c.describe(n)
	if errno != 0 {
		return errno
	}
	b := c.grow(statxOutSize)
	d := c.s.timeout()
	le.PutUint64(b[0:], uint64(d/time.Second))
	le.PutUint32(b[8:], uint32(d%time.Second))
	b = b[32:]
	st := &c.st
	le.PutUint32(b[0:], st.Mask&(unix.STATX_BASIC_STATS|unix.STATX_BTIME))
	le.PutUint32(b[4:], blockSize)
	le.PutUint32(b[16:], st.Nlink)
	le.PutUint32(b[20:], v.uid)
	le.PutUint32(b[24:], v.gid)
	le.PutUint16(b[28:], uint16(v.mode))
	le.PutUint64(b[32:], c.s.inode(st))
	le.PutUint64(b[40:], st.Size)
	le.PutUint64(b[48:], st.Blocks)
	for i, t := range []unix.StatxTimestamp{st.Atime, st.Btime, st.Ctime, st.Mtime} {
		le.PutUint64(b[64+16*i:], uint64(t.Sec))
		le.PutUint32(b[72+16*i:], t.Nsec)
	}
	le.PutUint32(b[128:], unix.Major(uint64(v.rdev)))
	le.PutUint32(b[132:], unix.Minor(uint64(v.rdev)))
	return 0
}
