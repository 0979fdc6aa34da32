package virtio

import (
	"encoding/binary"
	"fmt"
)

const (
	descNext     = 1 // flags of struct virtq_desc, §2.7.5
	descWrite    = 2
	descIndirect = 4

	// maxChainBytes bounds one chain as the length field of a used element does.
	maxChainBytes = 1<<32 - 1
)

// Chain is one descriptor chain. The segments are guest memory: the guest may change
// them at any time, so copy what will be parsed.
type Chain struct {
	Head uint16
	// Readable are the device-readable segments, Writable the device-writable ones that
	// follow them. Empty descriptors are left out.
	Readable, Writable [][]byte

	readable, writable uint64
}

// ReadableLen is the total size of Readable in bytes.
func (c *Chain) ReadableLen() uint64 { return c.readable }

// WritableLen is the total size of Writable in bytes.
func (c *Chain) WritableLen() uint64 { return c.writable }

// Read copies the readable bytes from offset off to p and returns how many there were.
func (c *Chain) Read(off uint64, p []byte) int {
	n := 0
	for _, s := range c.Readable {
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

// Write copies p to the writable bytes from offset off and returns how many fitted.
func (c *Chain) Write(off uint64, p []byte) int {
	n := 0
	for _, s := range c.Writable {
		if off >= uint64(len(s)) {
			off -= uint64(len(s))
			continue
		}
		n += copy(s[off:], p[n:])
		off = 0
		if n == len(p) {
			break
		}
	}
	return n
}

// Cut appends to dst the part of segs that begins at off and is n bytes long, or as much
// of it as there is.
func Cut(dst, segs [][]byte, off, n uint64) [][]byte {
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
			dst = append(dst, part)
		}
		if n -= uint64(len(part)); n == 0 {
			break
		}
	}
	return dst
}

// walk reads the chain that begins at head. At most q.size descriptors are read, those
// of an indirect table included, each of them once.
func (q *Queue) walk(c *Chain, head uint16) error {
	c.Head, c.Readable, c.Writable = head, c.Readable[:0], c.Writable[:0]
	c.readable, c.writable = 0, 0
	table, entries, inside := q.desc, uint32(q.size), false
	next := uint32(head)
	for left := int(q.size); ; left-- {
		if left == 0 {
			return fmt.Errorf("%w: chain at %d is longer than the queue", ErrGuest, head)
		}
		if next >= entries {
			return fmt.Errorf("%w: chain at %d leads to descriptor %d of %d", ErrGuest, head, next, entries)
		}
		d := table[next*descSize : next*descSize+descSize]
		addr := binary.LittleEndian.Uint64(d)
		length := binary.LittleEndian.Uint32(d[8:])
		flags := binary.LittleEndian.Uint16(d[12:])
		link := binary.LittleEndian.Uint16(d[14:])
		if flags&descIndirect != 0 {
			var err error
			if table, err = q.indirectTable(head, addr, length, flags, inside); err != nil {
				return err
			}
			entries, inside, next = length/descSize, true, 0
			left++ // the descriptor of the table is none of the chain's
			continue
		}
		if err := c.add(q, addr, length, flags&descWrite != 0); err != nil {
			return err
		}
		if flags&descNext == 0 {
			return nil
		}
		next = uint32(link)
	}
}

func (q *Queue) indirectTable(head uint16, addr uint64, length uint32, flags uint16, inside bool) ([]byte, error) {
	switch {
	case !q.indirect:
		return nil, fmt.Errorf("%w: chain at %d uses an indirect table, which was not negotiated", ErrGuest, head)
	case inside:
		return nil, fmt.Errorf("%w: chain at %d has an indirect table inside another", ErrGuest, head)
	case flags&descNext != 0:
		return nil, fmt.Errorf("%w: chain at %d goes on after an indirect table", ErrGuest, head)
	case length == 0 || length%descSize != 0 || length/descSize > uint32(q.size):
		return nil, fmt.Errorf("%w: chain at %d has an indirect table of %d bytes", ErrGuest, head, length)
	}
	table, err := q.mem.Slice(addr, uint64(length))
	if err != nil {
		return nil, fmt.Errorf("%w: indirect table at %#x: %w", ErrGuest, addr, err)
	}
	return table, nil
}

func (c *Chain) add(q *Queue, addr uint64, length uint32, write bool) error {
	if !write && len(c.Writable) > 0 {
		return fmt.Errorf("%w: chain at %d has a readable part after a writable one", ErrGuest, c.Head)
	}
	if length == 0 {
		return nil
	}
	s, err := q.mem.Slice(addr, uint64(length))
	if err != nil {
		return fmt.Errorf("%w: %d bytes at %#x: %w", ErrGuest, length, addr, err)
	}
	if c.readable+c.writable+uint64(length) > maxChainBytes {
		return fmt.Errorf("%w: chain at %d has more than %d bytes", ErrGuest, c.Head, uint64(maxChainBytes))
	}
	if write {
		c.Writable = append(c.Writable, s)
		c.writable += uint64(length)
	} else {
		c.Readable = append(c.Readable, s)
		c.readable += uint64(length)
	}
	return nil
}
