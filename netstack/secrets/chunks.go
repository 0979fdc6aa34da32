package secrets

import (
	"bytes"
	"strconv"
)

// maxSizeLine bounds the line before a chunk, bytes.
const maxSizeLine = 4 << 10

// part is what the next byte of a chunked body belongs to.
type part uint8

const (
	partSize    part = iota // the line before a chunk
	partData                // a chunk
	partEnd                 // the CRLF after it
	partTrailer             // the fields after the last chunk
)

// chunks carries one body in the chunked coding, RFC 9112 §7.1.
type chunks struct {
	*http1
	replaces bool // its placeholders
	done     bool

	part part
	line []byte // of partSize, partEnd and partTrailer
	size uint64 // left of the chunk
	held []byte // data that may be the beginning of a placeholder, or of a longer one than it is
}

// write carries what of p belongs to the body.
func (c *chunks) write(dst, p []byte) (out, rest []byte, err error) {
	for len(p) > 0 && !c.done && err == nil {
		switch c.part {
		case partSize:
			dst, p, err = c.sizeLine(dst, p)
		case partData:
			dst, p, err = c.data(dst, p)
		case partEnd:
			dst, p, err = c.crlf(dst, p)
		case partTrailer:
			dst, p, err = c.trailer(dst, p)
		}
	}
	return dst, p, err
}

// take moves bytes of p to c.line until that ends as end does.
func (c *chunks) take(p []byte, end string, limit int) (rest []byte, ok bool, err error) {
	from := max(0, len(c.line)-len(end)+1)
	n := min(len(p), limit+1-len(c.line))
	c.line = append(c.line, p[:n]...)
	i := bytes.Index(c.line[from:], []byte(end))
	if i < 0 {
		if len(c.line) > limit {
			return nil, false, malformed("the lines around its chunks are too long")
		}
		return p[n:], false, nil
	}
	extra := len(c.line) - (from + i + len(end))
	c.line = c.line[:len(c.line)-extra]
	return p[n-extra:], true, nil
}

// sizeLine reads the size of a chunk, and what extensions it has.
func (c *chunks) sizeLine(dst, p []byte) (out, rest []byte, err error) {
	rest, ok, err := c.take(p, "\r\n", maxSizeLine)
	if !ok || err != nil {
		return dst, rest, err
	}
	line := c.line[:len(c.line)-2]
	if bytes.ContainsAny(line, "\r\n\x00") {
		return dst, nil, malformed("the size of a chunk is malformed")
	}
	digits, _, _ := bytes.Cut(line, []byte(";"))
	if c.size, err = strconv.ParseUint(string(bytes.TrimRight(digits, " \t")), 16, 63); err != nil {
		return dst, nil, malformed("the size of a chunk is malformed")
	}
	if hit := c.view.find(line); hit != nil {
		return dst, nil, c.refuse(hit, c.at(""))
	}
	if c.part = partData; c.size == 0 {
		c.part = partTrailer
		if hit := c.scan.scan(nil, true); hit != nil {
			return dst, nil, c.refuse(hit, c.at("body"))
		}
	}
	switch {
	case !c.replaces:
		dst = append(dst, c.line...)
	case c.size == 0:
		text, _, err := c.view.replace(nil, c.held, true, bodyValue)
		if err != nil {
			return dst, nil, err
		}
		dst = append(appendChunk(dst, text), "0\r\n"...)
		clear(c.held)
		c.held = nil
	}
	c.line = c.line[:0]
	if c.part == partTrailer {
		c.line = append(c.line, "\r\n"...) // so that no fields end like some
	}
	return dst, rest, nil
}

// data carries data of a chunk.
func (c *chunks) data(dst, p []byte) (out, rest []byte, err error) {
	n := min(uint64(len(p)), c.size)
	if c.size -= n; c.size == 0 {
		c.part = partEnd
	}
	p, rest = p[:n], p[n:]
	if hit := c.scan.scan(p, false); hit != nil {
		return dst, nil, c.refuse(hit, c.at("body"))
	}
	if !c.replaces {
		return append(dst, p...), rest, nil
	}
	c.held = append(c.held, p...)
	text, left, err := c.view.replace(nil, c.held, false, bodyValue)
	if err != nil {
		return dst, nil, err
	}
	dst = appendChunk(dst, text)
	c.held = append(c.held[:0], left...)
	return dst, rest, nil
}

// appendChunk appends data as a chunk, if there is any: an empty one is the last.
func appendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = append(strconv.AppendUint(dst, uint64(len(data)), 16), "\r\n"...)
	return append(append(dst, data...), "\r\n"...)
}

// crlf reads what ends a chunk.
func (c *chunks) crlf(dst, p []byte) (out, rest []byte, err error) {
	n := min(len(p), 2-len(c.line))
	c.line = append(c.line, p[:n]...)
	if string(c.line) != "\r\n"[:len(c.line)] {
		return dst, nil, malformed("a chunk does not end where it says")
	}
	if len(c.line) == 2 {
		c.line, c.part = c.line[:0], partSize
		if !c.replaces {
			dst = append(dst, "\r\n"...)
		}
	}
	return dst, p[n:], nil
}

// trailer reads the trailer section, and the empty line after it.
func (c *chunks) trailer(dst, p []byte) (out, rest []byte, err error) {
	rest, ok, err := c.take(p, headEnd, maxHead)
	if !ok || err != nil {
		return dst, rest, err
	}
	section := c.line[2:]
	fields, err := parseFields(section)
	if err != nil {
		return dst, nil, err
	}
	for _, f := range fields {
		switch f.name {
		case "host", "content-length", "transfer-encoding":
			return dst, nil, malformed("its trailer has a %s", f.name)
		}
		if hit, location := c.headerViolation(string(f.line[:f.value-1]), f.line[f.value:]); hit != nil {
			return dst, nil, c.refuse(hit, c.at(location))
		}
	}
	c.done = true
	return append(dst, section...), rest, nil
}
