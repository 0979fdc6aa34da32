package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Tar, as far as these archives use it: one header block of the old GNU format a member,
// regular and sparse files, no names longer than a block holds.
const (
	blockSize = 512

	typeRegular    = '0'
	typeOld        = 0 // regular in old archives
	typeContiguous = '7'
	typeDirectory  = '5'
	typeSparse     = 'S'

	nameAt, nameLen         = 0, 100
	modeAt, uidAt, gidAt    = 100, 108, 116
	idLen                   = 8
	sizeAt, mtimeAt, numLen = 124, 136, 12
	sumAt, sumLen           = 148, 8
	typeAt                  = 156
	linkAt, linkLen         = 157, 100
	magicAt                 = 257
	prefixAt                = 345 // POSIX only
	mapAt, mapLen           = 386, 4
	extendedAt, realSizeAt  = 482, 483
	extentLen               = 2 * numLen

	// A block of a long map: so many extents, and whether another block follows.
	extensionLen, extensionMore = 21, 504
)

const (
	magicGNU   = "ustar  \x00"
	magicPOSIX = "ustar\x0000"
)

// member is the head of one file in an archive.
type member struct {
	name    string
	kind    byte
	stored  int64           // bytes that follow
	size    int64           // of the file, in bytes
	extents []sparse.Extent // where what is stored belongs; nil unless kind is typeSparse
}

// block is one block of a header.
type block [blockSize]byte

// put writes a number at an offset: octal digits if they suffice, else base 256.
func (b *block) put(at, n int, v int64) {
	field := b[at : at+n]
	digits := strconv.FormatInt(v, 8)
	if len(digits) < n {
		copy(field, fmt.Sprintf("%0*s", n-1, digits))
		return
	}
	binary.BigEndian.PutUint64(field[n-8:], uint64(v))
	field[0] = 0x80
}

// number reads a number.
func (b *block) number(at, n int) (int64, error) {
	field := b[at : at+n]
	if field[0] == 0x80 && n > 8 {
		v := binary.BigEndian.Uint64(field[n-8:])
		if v>>63 != 0 || len(bytes.Trim(field[1:n-8], "\x00")) > 0 {
			return 0, fmt.Errorf("%w: a number is out of range", ErrArchive)
		}
		return int64(v), nil
	}
	v, err := strconv.ParseInt(string(bytes.Trim(field, " \x00")), 8, 64)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%w: %q is no number", ErrArchive, field)
	}
	return v, nil
}

func (b *block) text(at, n int) string {
	field := b[at : at+n]
	if end := bytes.IndexByte(field, 0); end >= 0 {
		field = field[:end]
	}
	return string(field)
}

// sum is the header's checksum: of its bytes, its own field taken for spaces.
func (b *block) sum() int64 {
	var sum int64
	for i, c := range b {
		if i >= sumAt && i < sumAt+sumLen {
			c = ' '
		}
		sum += int64(c)
	}
	return sum
}

// writeHeader writes the blocks before a member's bytes.
func writeHeader(w io.Writer, m member) error {
	var b block
	copy(b[nameAt:], m.name)
	b.put(modeAt, idLen, 0o644)
	b.put(uidAt, idLen, 0)
	b.put(gidAt, idLen, 0)
	b.put(sizeAt, numLen, m.stored)
	b.put(mtimeAt, numLen, 0)
	b[typeAt] = m.kind
	copy(b[magicAt:], magicGNU)
	rest := m.extents
	if m.kind == typeSparse {
		rest = b.putExtents(mapAt, mapLen, rest)
		b.put(realSizeAt, numLen, m.size)
		if len(rest) > 0 {
			b[extendedAt] = 1
		}
	}
	b.put(sumAt, sumLen-1, b.sum())
	b[sumAt+sumLen-1] = ' '
	if _, err := w.Write(b[:]); err != nil {
		return err
	}
	for len(rest) > 0 {
		var more block
		rest = more.putExtents(0, extensionLen, rest)
		if len(rest) > 0 {
			more[extensionMore] = 1
		}
		if _, err := w.Write(more[:]); err != nil {
			return err
		}
	}
	return nil
}

// putExtents writes up to n extents and returns the others.
func (b *block) putExtents(at, n int, extents []sparse.Extent) []sparse.Extent {
	n = min(n, len(extents))
	for i, e := range extents[:n] {
		b.put(at+i*extentLen, numLen, e.Offset)
		b.put(at+i*extentLen+numLen, numLen, e.Length)
	}
	return extents[n:]
}

// readHeader reads the blocks before a member's bytes; the mark that ends an archive is
// io.EOF.
func readHeader(r io.Reader) (member, error) {
	var b block
	if err := readBlock(r, &b); err != nil {
		return member{}, err
	}
	if b == (block{}) {
		if err := readBlock(r, &b); err != nil {
			return member{}, err
		}
		if b != (block{}) {
			return member{}, fmt.Errorf("%w: the end mark is half missing", ErrArchive)
		}
		return member{}, io.EOF
	}
	magic := string(b[magicAt : magicAt+len(magicGNU)])
	if magic != magicGNU && magic != magicPOSIX {
		return member{}, fmt.Errorf("%w: this is no tar archive, or of an unknown form", ErrArchive)
	}
	sum, err := b.number(sumAt, sumLen)
	if err != nil {
		return member{}, err
	}
	m := member{name: b.text(nameAt, nameLen), kind: b[typeAt]}
	switch {
	case sum != b.sum():
		return m, fmt.Errorf("%w: the checksum of a header is wrong", ErrArchive)
	case magic == magicPOSIX && b[prefixAt] != 0, b.text(linkAt, linkLen) != "":
		return m, fmt.Errorf("%w: member %q has a long name or is a link", ErrArchive, m.name)
	}
	if m.stored, err = b.number(sizeAt, numLen); err != nil {
		return m, err
	}
	switch m.size = m.stored; m.kind {
	case typeOld, typeContiguous:
		m.kind = typeRegular
	case typeRegular:
	case typeDirectory:
		if m.stored != 0 {
			return m, fmt.Errorf("%w: directory %q has content", ErrArchive, m.name)
		}
	case typeSparse:
		if magic != magicGNU {
			return m, fmt.Errorf("%w: sparse member %q of an unknown form", ErrArchive, m.name)
		}
		err = m.readMap(r, &b)
	default:
		err = fmt.Errorf("%w: member %q is of type %q", ErrArchive, m.name, m.kind)
	}
	return m, err
}

// readMap reads where the stored bytes of a sparse member belong.
func (m *member) readMap(r io.Reader, b *block) error {
	var err error
	if m.size, err = b.number(realSizeAt, numLen); err != nil {
		return err
	}
	end, err := m.takeExtents(b, mapAt, mapLen)
	for more := b[extendedAt] != 0; more && err == nil; more = b[extensionMore] != 0 {
		if end {
			return m.badMap("goes on after its end")
		}
		if err = readBlock(r, b); err == nil {
			end, err = m.takeExtents(b, 0, extensionLen)
		}
	}
	if err != nil {
		return err
	}
	return m.checkMap()
}

// takeExtents reads the extents of one block; an empty one ends the map.
func (m *member) takeExtents(b *block, at, n int) (end bool, err error) {
	for i := range n {
		from := at + i*extentLen
		if len(bytes.Trim(b[from:from+extentLen], "\x00")) == 0 {
			return true, nil
		}
		var e sparse.Extent
		if e.Offset, err = b.number(from, numLen); err != nil {
			return false, err
		}
		if e.Length, err = b.number(from+numLen, numLen); err != nil {
			return false, err
		}
		if len(m.extents) == maxExtents {
			return false, fmt.Errorf("%w: member %q has more than %d extents", ErrLimit, m.name, maxExtents)
		}
		m.extents = append(m.extents, e)
	}
	return false, nil
}

// checkMap refuses maps that are out of order or do not add up: extents in whole blocks,
// the last one as long as the file, an empty one only there.
func (m *member) checkMap() error {
	var at, stored int64
	for i, e := range m.extents {
		last := i == len(m.extents)-1
		switch {
		case e.Offset < at || e.Offset > m.size || e.Length > m.size-e.Offset:
			return m.badMap("overlaps or leaves the file")
		case !last && (e.Length == 0 || e.Length%blockSize != 0), !(last && e.Length == 0) && e.Offset%blockSize != 0:
			return m.badMap("has a broken extent")
		}
		at, stored = e.End(), stored+e.Length
	}
	if at != m.size || stored != m.stored {
		return m.badMap("does not add up")
	}
	return nil
}

func (m *member) badMap(why string) error {
	return fmt.Errorf("%w: the map of sparse member %q %s", ErrArchive, m.name, why)
}

func readBlock(r io.Reader, b *block) error {
	_, err := io.ReadFull(r, b[:])
	return cut(err)
}

// cut is err with the end of the file as what it means here.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it was cut short", ErrArchive)
	}
	return err
}

// padding is how many bytes fill a member's last block.
func padding(n int64) int64 { return -n & (blockSize - 1) }
