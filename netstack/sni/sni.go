package sni

import (
	"encoding/binary"
	"strings"
)

// Limit is how many bytes of a connection Parse looks at, at most.
const Limit = 16 << 10

const (
	recordHandshake  = 22
	recordHeader     = 5
	maxRecord        = 1<<14 + 256 // RFC 8446 §5.2
	typeClientHello  = 1
	handshakeHeader  = 4
	extensionSNI     = 0
	nameTypeHostName = 0
)

// Result is what the bytes so far amount to.
type Result uint8

// Results.
const (
	More  Result = iota // the ClientHello is not complete
	None                // no TLS, or a ClientHello without a name
	Found               // the name is known
)

// Parse looks for the server name at the start of a connection. The name is in lower case
// without dots at its ends; it is not checked otherwise.
func Parse(b []byte) (name string, r Result) {
	if len(b) > Limit {
		b = b[:Limit]
	}
	hello, r := handshake(b)
	if r != Found {
		if r == More && len(b) == Limit {
			r = None
		}
		return "", r
	}
	return serverName(hello)
}

// handshake joins the records at the start of b to the body of the ClientHello.
func handshake(b []byte) ([]byte, Result) {
	var joined []byte
	for {
		if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
			return nil, None
		}
		if len(b) < recordHeader {
			return nil, More
		}
		n := int(binary.BigEndian.Uint16(b[3:]))
		if n == 0 || n > maxRecord {
			return nil, None
		}
		whole := len(b) >= recordHeader+n
		part := b[recordHeader:min(len(b), recordHeader+n)]
		if joined == nil {
			joined = part[:len(part):len(part)]
		} else {
			joined = append(joined, part...)
		}
		if len(joined) > 0 && joined[0] != typeClientHello {
			return nil, None
		}
		if len(joined) >= handshakeHeader {
			size := int(joined[1])<<16 | int(joined[2])<<8 | int(joined[3])
			if size > Limit {
				return nil, None
			}
			if len(joined) >= handshakeHeader+size {
				return joined[handshakeHeader : handshakeHeader+size], Found
			}
		}
		if !whole {
			return nil, More
		}
		b = b[recordHeader+n:]
	}
}

// reader takes fields off a message; it is empty once something did not fit.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// vector takes a field that begins with its length in n bytes.
func (r *reader) vector(n int) []byte {
	size := 0
	for _, c := range r.take(n) {
		size = size<<8 | int(c)
	}
	return r.take(size)
}

func (r *reader) u16() int {
	v := r.take(2)
	if v == nil {
		return -1
	}
	return int(binary.BigEndian.Uint16(v))
}

// serverName finds the host name in a ClientHello. A message with two is not believed.
func serverName(hello []byte) (string, Result) {
	r := &reader{b: hello}
	r.take(2 + 32) // version and random
	r.vector(1)    // session
	r.vector(2)    // cipher suites
	r.vector(1)    // compression
	extensions := &reader{b: r.vector(2)}
	name, found := "", false
	for !r.bad && len(extensions.b) > 0 {
		kind := extensions.u16()
		body := extensions.vector(2)
		if extensions.bad {
			return "", None
		}
		if kind != extensionSNI {
			continue
		}
		n, ok := hostName(body)
		if found || !ok {
			return "", None
		}
		name, found = n, true
	}
	if !found || name == "" {
		return "", None
	}
	return name, Found
}

// hostName reads the body of a server name extension.
func hostName(body []byte) (string, bool) {
	outer := &reader{b: body}
	list := &reader{b: outer.vector(2)}
	name, found := "", false
	for len(list.b) > 0 {
		kind := list.take(1)
		value := list.vector(2)
		if list.bad || found && kind[0] == nameTypeHostName {
			return "", false
		}
		if kind[0] == nameTypeHostName {
			name, found = strings.ToLower(strings.Trim(string(value), ".")), true
		}
	}
	return name, found && !outer.bad
}
