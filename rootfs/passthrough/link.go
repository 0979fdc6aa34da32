//go:build linux

package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// link serves LINK.
func (c *call) link() syscall.Errno {
	a := c.fixed(8)
	if a == nil {
		return unix.EINVAL
	}
	old := le.Uint64(a)
	name, _, errno := c.name(8)
	if errno != 0 {
		return errno
	}
	n, errno := c.hold(old)
	if errno != 0 {
		return errno
	}
	defer c.drop(n)
	if n.kind == unix.S_IFDIR {
		return unix.EPERM
	}
	dir, errno := c.parent(name)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	if errno := linkPath(c.procPath(n.fd), dir.fd, &name[0]); errno != 0 {
		return errno
	}
	c.s.wrote()
	_, errno = c.lookupIn(dir, name)
	return errno
}

// unlink serves UNLINK and RMDIR.
func (c *call) unlink() syscall.Errno {
	name, _, errno := c.name(0)
	if errno != 0 {
		return errno
	}
	dir, errno := c.holdDir(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	if dir == c.s.table.root && c.s.cfg.Only != "" {
		return unix.EACCES
	}
	flags := 0
	if c.op == opRmdir {
		flags = unix.AT_REMOVEDIR
	}
	n := c.keep(dir, name)
	errno = unlinkAt(dir.fd, &name[0], flags)
	if errno == 0 {
		c.s.wrote()
	}
	c.lost(n, dir, name, errno == 0)
	return errno
}

// keep holds the node that a name, which is about to go, leads to, so that the guest can
// use it afterwards. It returns nil if the guest does not know it, or by another name.
func (c *call) keep(dir *node, name []byte) *node {
	fd, errno := c.open(func() (int, syscall.Errno) { return openBeneath(dir.fd, &name[0], unix.O_PATH|unix.O_NOFOLLOW, 0) })
	if errno != 0 {
		return nil
	}
	errno = statFD(fd, &c.other)
	t := &c.s.table
	t.lock()
	defer t.unlock()
	if errno == 0 {
		if n := t.at(identityOf(&c.other), dir, name); n != nil {
			t.adopt(n, fd)
			return n
		}
	}
	t.discard(fd)
	return nil
}

// known returns the node that a name leads to, if the guest knows it by that name.
func (c *call) known(dir *node, name []byte) *node {
	if statAt(dir.fd, &name[0], &c.other) != 0 {
		return nil
	}
	t := &c.s.table
	t.lock()
	defer t.unlock()
	return t.at(identityOf(&c.other), dir, name)
}

// at returns the node of a file that the guest knows by a name; mu is locked.
func (t *table) at(file identity, dir *node, name []byte) *node {
	n := t.byFile[file]
	if n == nil || n == t.root || n.parent != dir || n.name != string(name) {
		return nil
	}
	return n
}

// lost drops a node of keep, whose name is gone if so says gone.
func (c *call) lost(n, dir *node, name []byte, gone bool) {
	if n == nil {
		return
	}
	t := &c.s.table
	t.lock()
	if gone && n.parent == dir && n.name == string(name) {
		t.orphan(n)
	}
	t.release(n)
	t.unlock()
}

// rename serves RENAME and RENAME2.
func (c *call) rename() syscall.Errno {
	size, flags := 8, uint32(0)
	if c.op == opRename2 {
		size = 16
	}
	a := c.fixed(size)
	if a == nil {
		return unix.EINVAL
	}
	if c.op == opRename2 {
		flags = le.Uint32(a[8:])
	}
	newDirID := le.Uint64(a)
	oldName, next, errno := c.name(size)
	if errno != 0 {
		return errno
	}
	newName, _, errno := c.name(next)
	if errno != 0 {
		return errno
	}
	if flags&^(renameNoReplace|renameExchange|renameWhiteout) != 0 || flags&renameExchange != 0 && flags != renameExchange {
		return unix.EINVAL
	}
	if c.s.cfg.Only != "" {
		return unix.EACCES
	}
	oldDir, errno := c.holdDir(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(oldDir)
	newDir, errno := c.holdDir(newDirID)
	if errno != 0 {
		return errno
	}
	defer c.drop(newDir)
	moved, replaced := c.known(oldDir, oldName), c.keep(newDir, newName)
	if flags&renameWhiteout != 0 {
		errno = c.renameWhiteout(oldDir, oldName, newDir, newName, flags)
	} else {
		errno = renameAt(oldDir.fd, &oldName[0], newDir.fd, &newName[0], flags)
	}
	if errno != 0 {
		c.lost(replaced, newDir, newName, false)
		return errno
	}
	c.s.wrote()
	t := &c.s.table
	t.lock()
	// The node may have been moved or forgotten meanwhile.
	if moved != nil && !moved.dead && moved.parent == oldDir && moved.name == string(oldName) {
		t.place(moved, newDir, string(newName))
	}
	if replaced != nil {
		if replaced != moved && replaced.parent == newDir && replaced.name == string(newName) {
			if flags&renameExchange != 0 {
				t.place(replaced, oldDir, string(oldName))
			} else {
				t.orphan(replaced)
			}
		}
		t.release(replaced)
	}
	t.unlock()
	return 0
}

// renameWhiteout renames a file and leaves in its place what overlay file systems take
// for a deleted file, a device with the number 0, which is one for the guest only.
func (c *call) renameWhiteout(oldDir *node, oldName []byte, newDir *node, newName []byte, flags uint32) syscall.Errno {
	if c.s.cfg.Stat == StatOff {
		return unix.EINVAL
	}
	v, errno := c.newOwner(oldDir, unix.S_IFCHR)
	if errno != 0 {
		return errno
	}
	temp := c.s.temporaryName()
	fd, errno := c.makeFile(oldDir, temp, unix.O_WRONLY, v, nil)
	if errno != 0 {
		return errno
	}
	_ = unix.Close(fd)
	errno = renameAt(oldDir.fd, &oldName[0], oldDir.fd, &temp[0], renameExchange)
	if errno == 0 {
		if errno = renameAt(oldDir.fd, &temp[0], newDir.fd, &newName[0], flags&renameNoReplace); errno == 0 {
			return 0
		}
		_ = renameAt(oldDir.fd, &oldName[0], oldDir.fd, &temp[0], renameExchange)
	}
	_ = unlinkAt(oldDir.fd, &temp[0], 0)
	return errno
}
