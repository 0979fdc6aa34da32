//go:build linux

package passthrough

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// inFile reports that n bytes at off can be in a file.
func inFile(off, n uint64) bool { return off <= math.MaxInt64 && n <= math.MaxInt64-off }

// read serves READ, straight into guest memory.
func (c *call) read() syscall.Errno {
	a := c.fixed(40)
	if a == nil {
		return unix.EINVAL
	}
	off, n := le.Uint64(a[8:]), uint64(le.Uint32(a[16:]))
	n = min(n, c.room())
	if !inFile(off, n) {
		return unix.EINVAL
	}
	h, errno := c.useFile(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	segs := c.cut(c.out, outHeaderSize, n)
	if !c.patient && !c.s.blind.Load() {
		got, errno := readNow(h.fd, off, segs)
		switch errno {
		case 0:
			c.wrote = uint32(got)
			return 0
		case unix.EAGAIN:
			c.again = true
			return 0
		case unix.EOPNOTSUPP:
			c.s.blind.Store(true)
		default:
			return errno
		}
	}
	got, errno := readV(h.fd, off, segs)
	c.wrote = uint32(got)
	return errno
}

// write serves WRITE, straight from guest memory.
func (c *call) write() syscall.Errno {
	a := c.fixed(40)
	if a == nil {
		return unix.EINVAL
	}
	off, n := le.Uint64(a[8:]), uint64(le.Uint32(a[16:]))
	flags, guest := le.Uint32(a[20:]), le.Uint32(a[32:])
	if n != c.inLen-inHeaderSize-40 || !inFile(off, n) {
		return unix.EINVAL
	}
	h, errno := c.useFile(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	if !h.writable() {
		return unix.EBADF
	}
	// What the guest's page cache writes back has its place already.
	atEnd := guest&unix.O_APPEND != 0 && flags&writeCache == 0
	done, errno := c.writeFile(h, off, n, atEnd)
	if errno != 0 {
		return errno
	}
	if flags&writeKillPrivs != 0 {
		if errno := c.killPrivileges(h.node, h.fd); errno != 0 {
			return errno
		}
	}
	le.PutUint32(c.grow(8), uint32(done))
	return 0
}

func (c *call) writeFile(h *handle, off, n uint64, atEnd bool) (uint64, syscall.Errno) {
	q, node := &c.s.quota, h.node
	var charged uint64
	var errno syscall.Errno
	if atEnd {
		charged, errno = q.charge(n)
	} else if n > 0 {
		charged, errno = q.extend(node, off+n, h.fd)
	}
	if errno != 0 {
		return 0, errno
	}
	done, errno := writeV(h.fd, off, c.cut(c.in, inHeaderSize+40, n), atEnd)
	if done > 0 {
		c.s.wrote()
	}
	q.refund(min(n-done, charged))
	if done > 0 {
		node.grew(off+done, atEnd)
	}
	return done, errno
}

// fallocate serves FALLOCATE.
func (c *call) fallocate() syscall.Errno {
	a := c.fixed(32)
	if a == nil {
		return unix.EINVAL
	}
	off, n, mode := le.Uint64(a[8:]), le.Uint64(a[16:]), le.Uint32(a[24:])
	const known = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE
	if mode&^known != 0 {
		return unix.EOPNOTSUPP
	}
	if !inFile(off, n) {
		return unix.EFBIG
	}
	h, errno := c.useFile(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	if !h.writable() {
		return unix.EBADF
	}
	var charged uint64
	if mode&unix.FALLOC_FL_PUNCH_HOLE == 0 {
		// Space beyond the end costs what it takes, too.
		if charged, errno = c.s.quota.extend(h.node, off+n, h.fd); errno != 0 {
			return errno
		}
	}
	for {
		errno = errnoOf(unix.Fallocate(h.fd, mode, int64(off), int64(n)))
		if errno != unix.EINTR {
			break
		}
	}
	if errno != 0 {
		c.s.quota.refund(charged)
		return errno
	}
	c.s.wrote()
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		h.node.grew(off+n, false)
	}
	return 0
}

// lseek serves LSEEK, which finds data and holes.
func (c *call) lseek() syscall.Errno {
	a := c.fixed(24)
	if a == nil {
		return unix.EINVAL
	}
	off, whence := le.Uint64(a[8:]), le.Uint32(a[16:])
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE || off > math.MaxInt64 {
		return unix.EINVAL
	}
	h, errno := c.useFile(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	pos, err := unix.Seek(h.fd, int64(off), int(whence))
	if err != nil {
		return errnoOf(err)
	}
	le.PutUint64(c.grow(8), uint64(pos))
	return 0
}

// copyFileRange serves COPY_FILE_RANGE between two files of the share.
func (c *call) copyFileRange() syscall.Errno {
	a := c.fixed(56)
	if a == nil {
		return unix.EINVAL
	}
	fromOff, toNode, toHandle, toOff := le.Uint64(a[8:]), le.Uint64(a[16:]), le.Uint64(a[24:]), le.Uint64(a[32:])
	n, flags := min(le.Uint64(a[40:]), maxCopy), le.Uint64(a[48:])
	if flags != 0 || !inFile(fromOff, n) || !inFile(toOff, n) {
		return unix.EINVAL
	}
	from, errno := c.useFile(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(from)
	to, errno := c.useFile(toNode, toHandle)
	if errno != 0 {
		return errno
	}
	defer c.endHandle(to)
	if !to.writable() {
		return unix.EBADF
	}
	charged, errno := c.s.quota.extend(to.node, toOff+n, to.fd)
	if errno != 0 {
		return errno
	}
	rOff, wOff := int64(fromOff), int64(toOff)
	done, err := unix.CopyFileRange(from.fd, &rOff, to.fd, &wOff, int(n), 0)
	done = max(done, 0)
	c.s.quota.refund(min(n-uint64(done), charged))
	if err != nil {
		return errnoOf(err)
	}
	if done > 0 {
		c.s.wrote()
		to.node.grew(toOff+uint64(done), false)
	}
	le.PutUint32(c.grow(8), uint32(done))
	return 0
}

// maxCopy bounds one COPY_FILE_RANGE, so that none takes long. The guest goes on with the
// rest.
const maxCopy = 64 << 20
