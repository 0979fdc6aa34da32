//go:build linux

package passthrough

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

// The guest has the attributes of users, but for those that the server needs. All others
// mean something to the host's kernel, and are not there for the guest.
var (
	userPrefix   = []byte("user.")
	hiddenPrefix = []byte("user.msb.")
)

const maxKey = 255

func visible(key []byte) bool {
	return bytes.HasPrefix(key, userPrefix) && !bytes.HasPrefix(key, hiddenPrefix)
}

// key returns the name of an attribute at off of the arguments, with its NUL.
func (c *call) key(off int) ([]byte, syscall.Errno) {
	key, _, errno := c.text(off)
	switch n := len(key) - 1; {
	case errno != 0:
		return nil, errno
	case n == 0 || n > maxKey:
		return nil, unix.ERANGE
	}
	return key, 0
}

// holdXattr holds the node of a request about attributes.
func (c *call) holdXattr() (*node, syscall.Errno) {
	n, errno := c.hold(c.nodeID)
	switch {
	case errno != 0:
		return nil, errno
	case !hasOverlay(n.kind):
		c.drop(n)
		return nil, unix.EPERM
	case n == c.s.table.root && c.s.cfg.Only != "":
		c.drop(n)
		return nil, unix.EOPNOTSUPP
	}
	return n, 0
}

// getxattr serves GETXATTR.
func (c *call) getxattr() syscall.Errno {
	a := c.fixed(8)
	if a == nil {
		return unix.EINVAL
	}
	want := le.Uint32(a)
	key, errno := c.key(8)
	if errno != 0 {
		return errno
	}
	if !visible(key) {
		return unix.ENODATA
	}
	n, errno := c.holdXattr()
	if errno == unix.EPERM || errno == unix.EOPNOTSUPP {
		return unix.ENODATA
	}
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	var buf []byte
	if want > 0 {
		buf = c.bigBuf()[:min(want, maxXattr)]
	}
	length, errno := getXattr(c.procPath(n.fd), false, key, buf)
	if errno != 0 {
		return errno
	}
	return c.answerXattr(want, buf, length)
}

// answerXattr makes the answer of GETXATTR and LISTXATTR: of length bytes in buf, or just
// how many they are.
func (c *call) answerXattr(want uint32, buf []byte, length int) syscall.Errno {
	if want == 0 {
		le.PutUint32(c.grow(8), uint32(length))
		return 0
	}
	if uint64(length) > min(uint64(want), c.room()) {
		return unix.ERANGE
	}
	c.put(outHeaderSize, buf[:length])
	c.wrote = uint32(length)
	return 0
}

// listxattr serves LISTXATTR.
func (c *call) listxattr() syscall.Errno {
	a := c.fixed(8)
	if a == nil {
		return unix.EINVAL
	}
	want := le.Uint32(a)
	n, errno := c.holdXattr()
	if errno == unix.EPERM || errno == unix.EOPNOTSUPP {
		return c.answerXattr(want, nil, 0)
	}
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	buf := c.bigBuf()
	length, errno := listXattr(c.procPath(n.fd), buf)
	if errno != 0 {
		return errno
	}
	kept := 0
	for rest := buf[:length]; len(rest) > 0; {
		end := bytes.IndexByte(rest, 0) + 1
		if end == 0 {
			break
		}
		if visible(rest[:end-1]) {
			kept += copy(buf[kept:], rest[:end])
		}
		rest = rest[end:]
	}
	return c.answerXattr(want, buf, kept)
}

// setxattr serves SETXATTR.
func (c *call) setxattr() syscall.Errno {
	a := c.fixed(8)
	if a == nil {
		return unix.EINVAL
	}
	size, flags := uint64(le.Uint32(a)), le.Uint32(a[4:])
	key, errno := c.key(8)
	if errno != 0 {
		return errno
	}
	switch {
	case size > maxXattr:
		return unix.E2BIG
	case c.inLen != uint64(inHeaderSize+8+len(key))+size, flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0:
		return unix.EINVAL
	case !visible(key):
		return refuse(key)
	}
	n, errno := c.holdXattr()
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	value := c.bigBuf()[:size]
	copyAt(value, c.in, uint64(inHeaderSize+8+len(key)))
	c.s.wrote()
	return setXattr(c.procPath(n.fd), false, key, value, int(flags))
}

// removexattr serves REMOVEXATTR.
func (c *call) removexattr() syscall.Errno {
	key, errno := c.key(0)
	switch {
	case errno != 0:
		return errno
	case !visible(key):
		return refuse(key)
	}
	n, errno := c.holdXattr()
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	c.s.wrote()
	return removeXattr(c.procPath(n.fd), key)
}

// refuse is why an attribute cannot be changed.
func refuse(key []byte) syscall.Errno {
	if bytes.HasPrefix(key, hiddenPrefix) {
		return unix.EPERM
	}
	return unix.EOPNOTSUPP
}
