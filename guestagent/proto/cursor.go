package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxDepth is how many arrays, maps and tags may nest in an envelope or a payload.
const MaxDepth = 16

// CBOR major types (RFC 8949 §3.1) and the special values used here.
const (
	majorUint = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple

	cborNull      = 0xf6
	cborUndefined = 0xf7
	cborBreak     = 0xff

	infoIndefinite = 31
)

var (
	errTruncated = errors.New("data ends early")
	errDepth     = fmt.Errorf("nested deeper than %d levels", MaxDepth)
)

// cursor walks CBOR without building values. It is used where the protocol needs more
// than a struct decoder gives: aliasing byte strings, required keys, duplicate keys. All
// its methods skip tags, accept long-form and indefinite lengths, do work linear in the
// input and return slices of it wherever possible.
type cursor struct{ b []byte }

// headSize is the length of what appendHead appends for n.
func headSize(n int) int {
	switch {
	case n < 24:
		return 1
	case n <= 0xff:
		return 2
	case n <= 0xffff:
		return 3
	}
	return 5
}

// appendHead writes the shortest head of a major type.
func appendHead(dst []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(dst, m|byte(n))
	case n <= 0xff:
		return append(dst, m|24, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, m|25), uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(dst, m|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, m|27), n)
}

// rawHead reads one head. For indefinite lengths and the break code info is 31.
func (c *cursor) rawHead() (major, info byte, n uint64, err error) {
	if len(c.b) == 0 {
		return 0, 0, 0, errTruncated
	}
	major, info = c.b[0]>>5, c.b[0]&31
	rest := c.b[1:]
	size := 0
	switch {
	case info < 24:
		n = uint64(info)
	case info <= 27:
		size = 1 << (info - 24)
		if len(rest) < size {
			return 0, 0, 0, errTruncated
		}
		for _, x := range rest[:size] {
			n = n<<8 | uint64(x)
		}
	case info == infoIndefinite && major != majorUint && major != majorNegative && major != majorTag:
	default:
		return 0, 0, 0, fmt.Errorf("reserved head 0x%02x", c.b[0])
	}
	c.b = rest[size:]
	return major, info, n, nil
}

// head reads the next head that is not a tag.
func (c *cursor) head() (major, info byte, n uint64, err error) {
	for range MaxDepth + 1 {
		major, info, n, err = c.rawHead()
		if err != nil || major != majorTag {
			return major, info, n, err
		}
	}
	return 0, 0, 0, errDepth
}

// null consumes null or undefined, also tagged, and reports whether it was there.
func (c *cursor) null() bool {
	try := *c
	major, info, _, err := try.head()
	if err != nil || major != majorSimple || (info != cborNull&31 && info != cborUndefined&31) {
		return false
	}
	*c = try
	return true
}

func (c *cursor) uint() (uint64, error) {
	major, _, n, err := c.head()
	if err != nil {
		return 0, err
	}
	if major != majorUint {
		return 0, fmt.Errorf("want an unsigned integer, got %s", majorName(major))
	}
	return n, nil
}

func (c *cursor) text() ([]byte, error) {
	major, info, n, err := c.head()
	if err != nil {
		return nil, err
	}
	if major != majorText {
		return nil, fmt.Errorf("want text, got %s", majorName(major))
	}
	s, err := c.str(majorText, info, n)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(s) {
		return nil, errors.New("text is not UTF-8")
	}
	return s, nil
}

// bytes reads a byte string, or an array of integers 0-255 in its place.
func (c *cursor) bytes() ([]byte, error) {
	major, info, n, err := c.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case majorBytes:
		return c.str(majorBytes, info, n)
	case majorArray:
		return c.byteArray(info, n)
	}
	return nil, fmt.Errorf("want a byte string, got %s", majorName(major))
}

func (c *cursor) byteArray(info byte, n uint64) ([]byte, error) {
	if info != infoIndefinite && n > uint64(len(c.b)) {
		return nil, errTruncated
	}
	var out []byte
	for i := uint64(0); info == infoIndefinite || i < n; i++ {
		if info == infoIndefinite && c.brk() {
			break
		}
		v, err := c.uint()
		if err != nil {
			return nil, err
		}
		if v > 255 {
			return nil, fmt.Errorf("array element %d is not a byte", v)
		}
		out = append(out, byte(v))
	}
	return out, nil
}

// brk consumes a break code and reports whether it was there.
func (c *cursor) brk() bool {
	if len(c.b) == 0 || c.b[0] != cborBreak {
		return false
	}
	c.b = c.b[1:]
	return true
}

// take cuts n bytes.
func (c *cursor) take(n uint64) ([]byte, error) {
	if n > uint64(len(c.b)) {
		return nil, errTruncated
	}
	s := c.b[:n:n]
	c.b = c.b[n:]
	return s, nil
}

// str reads the content of a string whose head was consumed.
func (c *cursor) str(major, info byte, n uint64) ([]byte, error) {
	if info != infoIndefinite {
		return c.take(n)
	}
	var out []byte
	for !c.brk() {
		m, i, n, err := c.rawHead()
		if err != nil {
			return nil, err
		}
		if m != major || i == infoIndefinite {
			return nil, errors.New("bad piece in an indefinite-length string")
		}
		piece, err := c.take(n)
		if err != nil {
			return nil, err
		}
		out = append(out, piece...)
	}
	return out, nil
}

// skip passes one value of any kind, checking that it is well formed.
func (c *cursor) skip(depth int) error {
	if depth < 0 {
		return errDepth
	}
	major, info, n, err := c.rawHead()
	if err != nil {
		return err
	}
	switch major {
	case majorBytes, majorText:
		_, err = c.str(major, info, n)
		return err
	case majorArray:
		return c.items(info, n, func() error { return c.skip(depth - 1) })
	case majorMap:
		return c.items(info, n, func() error {
			if err := c.skip(depth - 1); err != nil {
				return err
			}
			return c.skip(depth - 1)
		})
	case majorTag:
		return c.skip(depth - 1)
	case majorSimple:
		if info == infoIndefinite {
			return errors.New("break code out of place")
		}
		if info == 24 && n < 32 {
			return errors.New("bad simple value")
		}
	}
	return nil
}

// items calls f for each element of a container whose head was consumed.
func (c *cursor) items(info byte, n uint64, f func() error) error {
	if info == infoIndefinite {
		for !c.brk() {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	}
	if n > uint64(len(c.b)) {
		return errTruncated
	}
	for range n {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// mapEntries calls f with each key of the map at the cursor; f must consume the value and
// may nest depth further levels. Keys that are not text are an error.
func (c *cursor) mapEntries(depth int, f func(key []byte, depth int) error) error {
	major, info, n, err := c.head()
	if err != nil {
		return err
	}
	if major != majorMap {
		return fmt.Errorf("want a map, got %s", majorName(major))
	}
	if depth <= 0 {
		return errDepth
	}
	return c.items(info, n, func() error {
		key, err := c.text()
		if err != nil {
			return fmt.Errorf("map key: %w", err)
		}
		return f(key, depth-1)
	})
}

func majorName(major byte) string {
	switch major {
	case majorUint, majorNegative:
		return "an integer"
	case majorBytes:
		return "a byte string"
	case majorText:
		return "text"
	case majorArray:
		return "an array"
	case majorMap:
		return "a map"
	}
	return "a float or simple value"
}
