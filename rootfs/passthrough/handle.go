//go:build linux

package passthrough

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// handle is a file or directory that the guest has open. Its fields but id, fd, node and
// those of a directory are protected by table.mu.
type handle struct {
	id    uint64
	fd    int
	node  *node
	next  *handle // of the same node
	users int     // calls that use fd
	gone  bool    // released by the guest
	flags uint32  // of open(2)

	dir *dirStream // of a directory
}

// dirStream is what was read of a directory and not yet delivered.
type dirStream struct {
	mu   sync.Mutex
	pos  int64  // offset of the first entry of rest, or of the next one to read
	rest []byte // entries as the host's kernel gave them
	buf  []byte // holds rest; nil before the first entry and after the last
}

// addHandle makes a handle of an open file, which belongs to the table then.
func (t *table) addHandle(n *node, fd int, flags int, dir bool) (*handle, syscall.Errno) {
	t.lock()
	defer t.unlock()
	if len(t.byHandle) >= t.handles {
		t.discard(fd)
		return nil, unix.ENFILE
	}
	h := &handle{id: t.nextHandle, fd: fd, node: n, next: n.open, flags: uint32(flags)}
	if dir {
		h.dir = &dirStream{}
	}
	t.nextHandle++
	n.open = h
	t.byHandle[h.id] = h
	return h, 0
}

// writable reports a handle through which the file can be changed.
func (h *handle) writable() bool { return writes(int(h.flags)) }

// useHandle returns the handle of a node that the guest names, until endHandle.
func (c *call) useHandle(nodeID, id uint64) (*handle, syscall.Errno) {
	t := &c.s.table
	t.lock()
	defer t.unlock()
	h := t.byHandle[id]
	if h == nil || h.node.id != nodeID {
		return nil, unix.EBADF
	}
	h.users++
	return h, 0
}

// useFile is useHandle of a regular file, useDir of a directory.
func (c *call) useFile(nodeID, id uint64) (*handle, syscall.Errno) {
	h, errno := c.useHandle(nodeID, id)
	if errno == 0 && h.dir != nil {
		c.endHandle(h)
		return nil, unix.EISDIR
	}
	return h, errno
}

func (c *call) useDir(nodeID, id uint64) (*handle, syscall.Errno) {
	h, errno := c.useHandle(nodeID, id)
	if errno == 0 && h.dir == nil {
		c.endHandle(h)
		return nil, unix.ENOTDIR
	}
	return h, errno
}

func (c *call) endHandle(h *handle) {
	t := &c.s.table
	t.lock()
	t.releaseHandle(h)
	t.unlock()
}

// releaseHandle takes back one use of h; mu is locked.
func (t *table) releaseHandle(h *handle) {
	if h.users--; h.users == 0 && h.gone {
		t.discard(h.fd)
		h.fd = -1
	}
}

// dropHandle forgets a handle; mu is locked.
func (t *table) dropHandle(h *handle) {
	delete(t.byHandle, h.id)
	for p := &h.node.open; *p != nil; p = &(*p).next {
		if *p == h {
			*p = h.next
			break
		}
	}
	h.gone = true
	h.users++
	t.releaseHandle(h)
}

// releaseFile serves RELEASE and RELEASEDIR.
func (c *call) releaseFile() syscall.Errno {
	a := c.fixed(24)
	if a == nil {
		return unix.EINVAL
	}
	t := &c.s.table
	t.lock()
	h := t.byHandle[le.Uint64(a)]
	if h == nil || h.node.id != c.nodeID || (h.dir != nil) != (c.op == opReleasedir) {
		t.unlock()
		return unix.EBADF
	}
	t.dropHandle(h)
	last := h.node.open == nil
	t.unlock()
	if c.s.cfg.HostLocks {
		if le.Uint32(a[12:])&releaseUnflock != 0 {
			c.s.locks.end(lockKey{c.nodeID, le.Uint64(a[16:]), true})
		}
		if last {
			c.s.locks.endNode(c.nodeID)
		}
	}
	return 0
}
