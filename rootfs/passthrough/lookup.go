//go:build linux

package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// lookup serves LOOKUP.
func (c *call) lookup() syscall.Errno {
	name, _, errno := c.name(0)
	if errno != 0 {
		return errno
	}
	dir, errno := c.holdDir(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	_, errno = c.lookupIn(dir, name)
	return errno
}

// lookupIn makes the answer for a name in a directory, and returns the node that it leads
// to.
func (c *call) lookupIn(dir *node, name []byte) (*node, syscall.Errno) {
	v, errno := c.statName(dir, dir.fd, name)
	if errno != 0 {
		return nil, errno
	}
	return c.enter(dir, name, v)
}

// statName describes a name in a directory, of which fd is a descriptor, in c.st.
func (c *call) statName(dir *node, fd int, name []byte) (overlay, syscall.Errno) {
	if dir == c.s.table.root && !c.s.shares(name) {
		return overlay{}, unix.ENOENT
	}
	if errno := statAt(fd, &name[0], &c.st); errno != 0 {
		return overlay{}, errno
	}
	o, known, errno := c.overlayAt(fd, name, uint32(c.st.Mode)&unix.S_IFMT)
	if errno != 0 {
		return overlay{}, errno
	}
	return c.s.virtual(&c.st, o, known), 0
}

// forget serves FORGET.
func (c *call) forget() {
	if a := c.fixed(8); a != nil {
		c.s.table.forget(c.nodeID, le.Uint64(a))
	}
}

// batchForget serves BATCH_FORGET.
func (c *call) batchForget() {
	a := c.fixed(8)
	if a == nil {
		return
	}
	const header, size = inHeaderSize + 8, 16
	count := min(uint64(le.Uint32(a)), (c.inLen-header)/size)
	for i := range count {
		var b [size]byte
		if copyAt(b[:], c.in, header+i*size) < size {
			return
		}
		c.s.table.forget(le.Uint64(b[:]), le.Uint64(b[8:]))
	}
}

// access serves ACCESS by the bits that the guest sees.
func (c *call) access() syscall.Errno {
	a := c.fixed(8)
	if a == nil {
		return unix.EINVAL
	}
	mask := le.Uint32(a)
	if mask&^7 != 0 {
		return unix.EINVAL
	}
	n, errno := c.hold(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	v, errno := c.describe(n)
	switch {
	case errno != 0:
		return errno
	case mask&unix.W_OK != 0 && c.s.cfg.ReadOnly:
		return unix.EROFS
	case c.uid == 0:
		if mask&unix.X_OK != 0 && n.kind == unix.S_IFREG && v.mode&0o111 == 0 {
			return unix.EACCES
		}
		return 0
	}
	bits := v.mode
	switch {
	case c.uid == v.uid:
		bits >>= 6
	case c.gid == v.gid:
		bits >>= 3
	}
	if mask&^bits&7 != 0 {
		return unix.EACCES
	}
	return 0
}
