//go:build linux

package passthrough

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// call is one request being served. It is reused, and allocates nothing.
type call struct {
	s   *Server
	in  [][]byte // guest memory
	out [][]byte // guest memory

	op     opcode
	unique uint64
	nodeID uint64
	uid    uint32
	gid    uint32
	inLen  uint64 // length of the request, header included
	outLen uint64 // room for the answer, header included

	args  []byte // after the header, as much of it as fits into argBuf; a copy
	reply []byte // the answer after its header, unless it is in out already
	// wrote is how many bytes of the answer are in out already, after its header.
	wrote   uint32
	patient bool // it may wait for a disk
	again   bool

	argBuf   [argsSize]byte
	replyBuf [statxOutSize + outHeaderSize]byte
	path     [len(procFD) + 20 + 1 + maxName + 1]byte
	value    [overlaySize + 1]byte
	st       unix.Statx_t // of the file
	other    unix.Statx_t // of another one
	segs     [][]byte     // part of in or out
	big      []byte       // of maxXattr bytes, once it was needed
}

// begin reads the header and the arguments.
func (c *call) begin(header *[inHeaderSize]byte, in, out [][]byte) syscall.Errno {
	c.in, c.out = in, out
	c.op = opcode(le.Uint32(header[4:]))
	c.unique = le.Uint64(header[8:])
	c.nodeID = le.Uint64(header[16:])
	c.uid, c.gid = le.Uint32(header[24:]), le.Uint32(header[28:])
	c.reply, c.wrote, c.again, c.args = c.replyBuf[:0], 0, false, nil
	c.outLen = size(out)
	c.inLen = uint64(le.Uint32(header[0:]))
	if c.inLen < inHeaderSize || c.inLen > size(in) {
		return unix.EINVAL
	}
	if le.Uint16(header[36:]) != 0 {
		return unix.EOPNOTSUPP // extensions, none of which was negotiated
	}
	n := min(c.inLen-inHeaderSize, argsSize)
	c.args = c.argBuf[:copyAt(c.argBuf[:n], in, inHeaderSize)]
	return 0
}

// end forgets guest memory.
func (c *call) end() {
	c.in, c.out = nil, nil
	clear(c.segs[:cap(c.segs)])
	c.segs = c.segs[:0]
}

// size is the number of bytes of segs.
func size(segs [][]byte) (n uint64) {
	for _, s := range segs {
		n += uint64(len(s))
	}
	return n
}

// copyAt copies what segs hold at off to p.
func copyAt(p []byte, segs [][]byte, off uint64) (n int) {
	for _, s := range segs {
		if off >= uint64(len(s)) {
			off -= uint64(len(s))
			continue
		}
		n += copy(p[n:], s[off:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}

// put copies p to the answer's offset off, which counts its header.
func (c *call) put(off uint64, p []byte) {
	for _, s := range c.out {
		if off >= uint64(len(s)) {
			off -= uint64(len(s))
			continue
		}
		p = p[copy(s[off:], p):]
		off = 0
		if len(p) == 0 {
			return
		}
	}
}

// cut returns the n bytes at off of segs as segments.
func (c *call) cut(segs [][]byte, off, n uint64) [][]byte {
	c.segs = c.segs[:0]
	for _, s := range segs {
		l := uint64(len(s))
		if off >= l {
			off -= l
			continue
		}
		part := s[off:]
		off = 0
		if uint64(len(part)) > n {
			part = part[:n]
		}
		if len(part) > 0 {
			c.segs = append(c.segs, part)
		}
		if n -= uint64(len(part)); n == 0 {
			break
		}
	}
	return c.segs
}

// answer writes the answer and returns its length.
func (c *call) answer(errno syscall.Errno) uint32 {
	if c.outLen < outHeaderSize {
		return 0
	}
	length := uint32(outHeaderSize)
	if errno == 0 {
		length += uint32(len(c.reply)) + c.wrote
		if uint64(length) > c.outLen {
			errno, length = unix.EIO, outHeaderSize
		}
	}
	var h [outHeaderSize]byte
	le.PutUint32(h[0:], length)
	le.PutUint32(h[4:], uint32(-int32(errno)))
	le.PutUint64(h[8:], c.unique)
	if errno == 0 {
		c.put(outHeaderSize, c.reply)
	}
	c.put(0, h[:])
	return length
}

// room is how many bytes of answer fit after its header.
func (c *call) room() uint64 {
	if c.outLen < outHeaderSize {
		return 0
	}
	return c.outLen - outHeaderSize
}

// fixed returns the fixed part of the arguments, n bytes, nil if there is less.
func (c *call) fixed(n int) []byte {
	if len(c.args) < n {
		return nil
	}
	return c.args[:n]
}

// name returns the file name at off of the arguments, with its NUL, and the offset after
// it. A name is one component of a path and leads neither up nor nowhere.
func (c *call) name(off int) (name []byte, next int, errno syscall.Errno) {
	name, next, errno = c.text(off)
	switch n := len(name) - 1; {
	case errno != 0:
		return nil, 0, errno
	case n == 0 || bytes.IndexByte(name, '/') >= 0 || n == 1 && name[0] == '.' || n == 2 && name[0] == '.' && name[1] == '.':
		return nil, 0, unix.EINVAL
	case n > maxName:
		return nil, 0, unix.ENAMETOOLONG
	}
	return name, next, 0
}

// text returns the string at off of the arguments, with its NUL, and the offset after it.
func (c *call) text(off int) (text []byte, next int, errno syscall.Errno) {
	if off > len(c.args) {
		return nil, 0, unix.EINVAL
	}
	n := bytes.IndexByte(c.args[off:], 0)
	if n < 0 {
		if len(c.args) == argsSize {
			return nil, 0, unix.ENAMETOOLONG
		}
		return nil, 0, unix.EINVAL
	}
	next = off + n + 1
	return c.args[off:next:next], next, 0
}

// grow makes the answer n bytes longer and returns them, zero.
func (c *call) grow(n int) []byte {
	old := len(c.reply)
	c.reply = c.reply[:old+n]
	p := c.reply[old:]
	clear(p)
	return p
}

// bigBuf returns a buffer for an extended attribute.
func (c *call) bigBuf() []byte {
	if c.big == nil {
		c.big = make([]byte, maxXattr)
	}
	return c.big
}

const procFD = "/proc/self/fd/"

// procPath is the path of an open file in /proc, which leads to the file itself. It is
// valid until the next call of procPath or procChild.
func (c *call) procPath(fd int) *byte {
	n := c.procPrefix(fd)
	c.path[n] = 0
	return &c.path[0]
}

// procChild is the path of a name, with its NUL, in an open directory.
func (c *call) procChild(fd int, name []byte) *byte {
	n := c.procPrefix(fd)
	c.path[n] = '/'
	copy(c.path[n+1:], name)
	return &c.path[0]
}

func (c *call) procPrefix(fd int) int {
	n := copy(c.path[:], procFD)
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + fd%10)
		if fd /= 10; fd == 0 {
			break
		}
	}
	return n + copy(c.path[n:], digits[i:])
}
