//go:build linux

package passthrough

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// streamSize is how much of a directory is read at a time, and so the most memory of
	// an open directory.
	streamSize = 8 << 10
	// hostDirent is the fixed part of struct linux_dirent64.
	hostDirent = 19
)

// opendir serves OPENDIR.
func (c *call) opendir() syscall.Errno {
	if len(c.args) < 8 {
		return unix.EINVAL
	}
	h, errno := c.openDirNode(c.nodeID)
	if errno == 0 {
		c.answerOpen(h, 0)
	}
	return errno
}

// openDirNode opens a directory.
func (c *call) openDirNode(id uint64) (*handle, syscall.Errno) {
	n, errno := c.holdDir(id)
	if errno != 0 {
		return nil, errno
	}
	defer c.drop(n)
	fd, errno := c.open(func() (int, syscall.Errno) {
		return openBeneath(n.fd, &dot[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	})
	if errno != 0 {
		return nil, errno
	}
	return c.s.table.addHandle(n, fd, unix.O_RDONLY, true)
}

// readdir serves READDIR and READDIRPLUS. Offsets are those of the host's file system,
// so that they stay what they are while names come and go.
func (c *call) readdir() syscall.Errno {
	a := c.fixed(40)
	if a == nil {
		return unix.EINVAL
	}
	off, room := int64(le.Uint64(a[8:])), min(uint64(le.Uint32(a[16:])), c.room())
	h, errno := c.useDir(c.nodeID, le.Uint64(a))
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	dir, errno := c.hold(c.nodeID)
	if errno != 0 {
		return errno
	}
	defer c.drop(dir)
	h.dir.mu.Lock()
	defer h.dir.mu.Unlock()
	if errno := h.dir.seek(h.fd, off); errno != 0 {
		return errno
	}
	for {
		e, errno := h.dir.peek(h.fd)
		switch {
		case errno != 0 && c.wrote == 0:
			return errno
		case errno != 0 || e.name == nil:
			return 0
		}
		switch c.deliver(dir, h.fd, &e, room) {
		case delivered:
			h.dir.skip(&e)
		case full:
			if c.wrote == 0 {
				return unix.EINVAL
			}
			return 0
		}
	}
}

// hostEntry is one entry of a host directory.
type hostEntry struct {
	ino    uint64
	next   int64 // offset of the entry after it
	length int   // as the kernel gave it
	kind   byte  // DT_*
	name   []byte
}

// seek makes off the offset of the next entry.
func (d *dirStream) seek(fd int, off int64) syscall.Errno {
	if off == d.pos {
		return 0
	}
	d.rest = nil
	pos, err := unix.Seek(fd, off, unix.SEEK_SET)
	if err != nil {
		return errnoOf(err)
	}
	d.pos = pos
	return 0
}

// peek returns the next entry, one without a name at the end of the directory.
func (d *dirStream) peek(fd int) (e hostEntry, errno syscall.Errno) {
	if len(d.rest) == 0 {
		if d.buf == nil {
			d.buf = make([]byte, streamSize)
		}
		n, err := unix.Getdents(fd, d.buf)
		if err != nil {
			return e, errnoOf(err)
		}
		if d.rest = d.buf[:n]; n == 0 {
			d.buf, d.rest = nil, nil
			return e, 0
		}
	}
	b := d.rest
	e = hostEntry{ino: le.Uint64(b), next: int64(le.Uint64(b[8:])), length: int(le.Uint16(b[16:])), kind: b[18]}
	name := b[hostDirent:e.length]
	e.name = name[: bytes.IndexByte(name, 0)+1 : e.length-hostDirent]
	return e, 0
}

// skip goes to the entry after e, the one of peek.
func (d *dirStream) skip(e *hostEntry) {
	d.rest = d.rest[e.length:]
	d.pos = e.next
}

// delivery is what became of an entry.
type delivery int

const (
	delivered delivery = iota // or left out, because it is not shared or gone
	full                      // there is no room for it
)

// deliver adds an entry to the answer.
func (c *call) deliver(dir *node, fd int, e *hostEntry, room uint64) delivery {
	name := e.name[:len(e.name)-1]
	dots := len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.'
	root := dir == c.s.table.root
	if root && !dots && !c.s.shares(e.name) {
		return delivered
	}
	plus := c.op == opReaddirplus
	length := uint64(direntSize+len(name)+7) &^ 7
	if plus {
		length += entryOutSize
	}
	if uint64(c.wrote)+length > room {
		return full
	}
	ino := e.ino
	if root && len(name) == 2 && dots {
		ino = c.s.table.root.file.ino // what lies above is not the guest's business
	}
	kind := c.kindOf(e.kind)
	b := c.replyBuf[:entryOutSize+direntSize+8]
	clear(b)
	at := b
	if plus {
		at = b[entryOutSize:]
		if !dots {
			v, errno := c.statName(dir, fd, e.name)
			if errno == unix.ENOENT {
				return delivered
			}
			if errno == 0 {
				// The table may be full; the entry is one without attributes then.
				if n, errno := c.s.table.see(dir, e.name, &c.st); errno == 0 {
					n.hint.Store(hintOf(v))
					n.learnSize(&c.st)
					c.s.putEntry(b, n, &c.st, v)
				}
				kind = byte(v.mode & unix.S_IFMT >> 12)
				ino = c.s.inode(&c.st)
			}
		}
	}
	le.PutUint64(at[0:], ino)
	le.PutUint64(at[8:], uint64(e.next))
	le.PutUint32(at[16:], uint32(len(name)))
	le.PutUint32(at[20:], uint32(kind))
	head := at[:direntSize]
	if plus {
		head = b[:entryOutSize+direntSize]
	}
	pos := uint64(outHeaderSize) + uint64(c.wrote)
	c.put(pos, head)
	c.put(pos+uint64(len(head)), name)
	var zero [8]byte
	c.put(pos+uint64(len(head)+len(name)), zero[:length-uint64(len(head)+len(name))])
	c.wrote += uint32(length)
	return delivered
}

// kindOf is the type of an entry as far as it is known without a look at the file: a
// regular file may stand for another one.
func (c *call) kindOf(kind byte) byte {
	if kind == unix.DT_REG && c.s.cfg.Stat != StatOff {
		return unix.DT_UNKNOWN
	}
	return kind
}
