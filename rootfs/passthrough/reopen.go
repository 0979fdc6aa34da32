//go:build linux

package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth bounds how many directories have to be opened again for one file.
	maxDepth = 4096
	// relocations is how often a file may be moved while it is being opened again.
	relocations = 4
	// reserve is how many descriptors are closed at least when the process has no more.
	reserve = 64
)

// hold returns a node whose descriptor is open and stays so until drop.
func (c *call) hold(id uint64) (*node, syscall.Errno) {
	t := &c.s.table
	t.lock()
	n := t.find(id)
	if n == nil {
		t.unlock()
		return nil, unix.ESTALE
	}
	if n.fd >= 0 {
		n.users++
		n.recent = true
		t.unlock()
		return n, 0
	}
	t.unlock()
	return n, c.reopen(n, 0)
}

// holdDir is hold of a directory.
func (c *call) holdDir(id uint64) (*node, syscall.Errno) {
	n, errno := c.hold(id)
	if errno == 0 && n.kind != unix.S_IFDIR {
		c.drop(n)
		return nil, unix.ENOTDIR
	}
	return n, errno
}

// drop undoes hold.
func (c *call) drop(n *node) {
	t := &c.s.table
	t.lock()
	t.release(n)
	t.unlock()
}

// release takes back one use of n's descriptor; mu is locked.
func (t *table) release(n *node) {
	if n.users--; n.users > 0 {
		return
	}
	if n.dead {
		t.discard(n.fd)
		n.fd = -1
		return
	}
	if n != t.root && (n.parent == nil && t.orphans > t.budget || t.fickle) {
		t.closeFD(n)
	}
	t.reap(n)
}

// reopen gives n a descriptor, through a handle or by its name, and holds it.
func (c *call) reopen(n *node, depth int) syscall.Errno {
	t := &c.s.table
	for range relocations {
		t.lock()
		if n.fd >= 0 {
			n.users++
			n.recent = true
			t.unlock()
			return 0
		}
		if h := n.open; h != nil && !t.fickle {
			h.users++
			t.unlock()
			fd, errno := c.open(func() (int, syscall.Errno) { return openPath(c.procPath(h.fd), unix.O_PATH) })
			t.lock()
			t.releaseHandle(h)
			if errno != 0 {
				t.unlock()
				return errno
			}
			t.adopt(n, fd)
			t.unlock()
			return 0
		}
		parent, name := n.parent, n.name
		if parent == nil || depth > maxDepth {
			t.unlock()
			return unix.ESTALE
		}
		t.unlock()
		if errno := c.reopen(parent, depth+1); errno != 0 {
			return errno
		}
		fd, errno := c.open(func() (int, syscall.Errno) {
			return openBeneath(parent.fd, nameOf(name), unix.O_PATH|unix.O_NOFOLLOW, 0)
		})
		if errno == 0 {
			errno = statFD(fd, &c.st)
		}
		t.lock()
		t.release(parent)
		if errno == 0 && (identityOf(&c.st) == n.file || t.fickle && t.become(n, &c.st)) {
			t.adopt(n, fd)
			t.unlock()
			return 0
		}
		moved := n.parent != parent || n.name != name || n.open != nil && !t.fickle
		t.discard(fd)
		t.unlock()
		switch {
		case moved:
		case errno == 0, errno == unix.ENOENT, errno == unix.ENOTDIR, errno == unix.EXDEV, errno == unix.ELOOP:
			return unix.ESTALE
		default:
			return errno
		}
	}
	return unix.ESTALE
}

// adopt makes fd the descriptor of n, unless it has got one meanwhile, and holds it; mu
// is locked.
func (t *table) adopt(n *node, fd int) {
	n.users++
	n.recent = true
	if n.fd >= 0 {
		t.discard(fd)
		return
	}
	n.fd = fd
	if n.dead {
		return // the last user closes it
	}
	if n.parent == nil {
		t.orphans++
		return
	}
	t.enter(n)
	t.makeRoom(t.budget)
}

// open opens a file, if necessary after other descriptors were closed.
func (c *call) open(open func() (int, syscall.Errno)) (int, syscall.Errno) {
	fd, errno := open()
	if errno == unix.EMFILE || errno == unix.ENFILE {
		t := &c.s.table
		t.lock()
		t.makeRoom(max(len(t.ring)-reserve, 0) / 2)
		t.unlock()
		fd, errno = open()
	}
	return fd, errno
}
