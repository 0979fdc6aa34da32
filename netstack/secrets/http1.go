package secrets

import (
	"bytes"
	"strconv"
)

const (
	// maxBody bounds the body of fixed length in which placeholders are replaced: its new
	// length comes before it. Bytes, as below.
	maxBody = 16 << 20
	// maxBodies bounds what all connections of a sandbox hold of such bodies.
	maxBodies = 128 << 20
)

// headEnd is the end of a request's last field, and the empty line after it.
const headEnd = "\r\n\r\n"

// state is what the next byte of the guest's is part of.
type state uint8

const (
	inHead state = iota
	inBody
	inHeldBody // kept back until it is complete
	inChunks
	inOther // no HTTP
)

// http1 carries requests of HTTP/1, RFC 9112, and what turns out to be none.
type http1 struct {
	*engine
	state  state
	buf    []byte // the head or the body that is not complete
	seen   int    // how much of buf has no end of a head
	lined  bool   // the line that begins buf is complete, and a request's
	begun  bool   // there has been a request
	other  bool   // another protocol may follow the requests
	req    *request
	place  where   // of req
	left   int64   // of a body
	scan   scanner // of the body, or of what is no HTTP
	chunks *chunks
}

// write implements protocol.
func (h *http1) write(dst, p []byte) (out []byte, err error) {
	for len(p) > 0 && err == nil {
		switch h.state {
		case inHead:
			dst, p, err = h.head(dst, p)
		case inBody:
			dst, p, err = h.body(dst, p)
		case inHeldBody:
			dst, p, err = h.heldBody(dst, p)
		case inChunks:
			dst, p, err = h.chunks.write(dst, p)
			if err == nil && h.chunks.done {
				h.reset()
			}
		case inOther:
			return h.opaque(dst, p)
		}
	}
	return dst, err
}

// reset makes ready for the next request.
func (h *http1) reset() {
	h.state, h.buf, h.seen, h.lined, h.req, h.chunks = inHead, nil, 0, false, nil, nil
	h.scan = scanner{}
}

// opaque carries what is no HTTP.
func (h *http1) opaque(dst, p []byte) ([]byte, error) {
	if hit := h.scan.scan(p, false); hit != nil {
		return dst, h.refuse(hit, where{})
	}
	return append(dst, p...), nil
}

// switchTo carries p and all that follows as no HTTP.
func (h *http1) switchTo(dst, p []byte) ([]byte, error) {
	h.identify("")
	h.reset()
	h.state, h.scan.view = inOther, h.view
	return h.opaque(dst, p)
}

// head collects a head, and carries it when it is complete.
func (h *http1) head(dst, p []byte) (out, rest []byte, err error) {
	taken := min(len(p), maxHead+1)
	if i := bytes.Index(p[:taken], []byte(headEnd)); i >= 0 && len(h.buf) == 0 {
		taken = i + len(headEnd)
	}
	h.buf = append(h.buf, p[:taken]...)
	s := startHTTP
	if !h.lined {
		s = firstLine(h.buf)
		h.lined = s == startHTTP
	}
	switch {
	case s == startOther && h.c.Strict && h.other && len(h.buf) < webSocketHead:
		return dst, p[taken:], nil
	case s == startOther && h.c.Strict && !(h.other && isWebSocket(h.buf)):
		return dst, nil, malformed("it is no request, and nothing else but WebSocket may pass in strict mode")
	case s == startBad, s == startOther && h.begun && !h.other, s == startOther && h.identified() && isBlank(h.buf[0]):
		return dst, nil, malformed("its request line is malformed")
	case s == startOther:
		b := append(h.buf, p[taken:]...)
		out, err = h.switchTo(dst, b)
		return out, nil, err
	}
	i := bytes.Index(h.buf[h.seen:], []byte(headEnd))
	end := h.seen + i + len(headEnd)
	if i < 0 && len(h.buf) > maxHead || i >= 0 && end > maxHead {
		return dst, nil, malformed("its head has more than %d bytes", maxHead)
	}
	if i < 0 {
		h.seen = max(0, len(h.buf)-len(headEnd)+1)
		return dst, p[taken:], nil
	}
	rest = p[taken-(len(h.buf)-end):]
	head := h.buf[:end:end]
	h.buf, h.seen, h.lined = nil, 0, false
	out, err = h.request(dst, head)
	return out, rest, err
}

// webSocketHead is how much tells that it is WebSocket, bytes.
const webSocketHead = 2

// isWebSocket reports whether b begins like a client's frame of RFC 6455 §5.2, which is
// masked, and so not like what a server that did not upgrade might take for a request.
func isWebSocket(b []byte) bool { return b[1]&0x80 != 0 }

func isBlank(c byte) bool { return c == '\r' || c == '\n' || c == ' ' }

// request carries a complete head, unless its body must come first.
func (h *http1) request(dst, head []byte) ([]byte, error) {
	r, err := parseRequest(head)
	if err != nil {
		return dst, err
	}
	host, err := r.authority()
	if h.view == nil {
		if err != nil {
			host, err = "", nil
		}
		h.identify(host)
	}
	if h.identified() {
		if err == nil && host != h.c.Host {
			err = malformed("its Host header is for another host than the connection")
		}
		if err != nil {
			return dst, err
		}
	}
	if h.c.Strict && r.method == "CONNECT" {
		return dst, malformed("it asks for a tunnel, which cannot be seen into")
	}
	h.begun, h.req = true, r
	h.place = where{protocol: "http/1.1", host: clip(host), method: r.method, path: clip(r.target)}
	if err := h.check(); err != nil {
		return dst, err
	}
	h.scan = scanner{view: h.view, bodies: r.encoded}
	replaces := h.view.injects.Body && !r.encoded
	switch {
	case r.method == "CONNECT":
		h.state = inOther
	case r.chunked:
		h.chunks = &chunks{http1: h, replaces: replaces}
		h.state = inChunks
	case r.length > 0 && replaces:
		if r.length > maxBody {
			return dst, malformed("its body has %d bytes; placeholders are replaced in at most %d", r.length, maxBody)
		}
		h.state, h.left = inHeldBody, r.length
		return dst, nil // its length may change
	case r.length > 0:
		h.state, h.left = inBody, r.length
	}
	dst, err = h.writeHead(dst, r.length)
	h.other = h.other || r.upgrades
	if h.state == inHead {
		h.reset()
	}
	return dst, err
}

// check looks for violations in the head.
func (h *http1) check() error {
	hit, location := h.targetViolation(h.req.target)
	if in := h.view.findIn(h.req.method); in != nil && stricter(hit, in) == in {
		hit, location = in, ""
	}
	for _, f := range h.req.fields {
		if in, where := h.headerViolation(string(f.line[:f.value-1]), f.line[f.value:]); in != nil && stricter(hit, in) == in {
			hit, location = in, where
		}
	}
	if hit == nil {
		return nil
	}
	return h.refuse(hit, h.at(location))
}

// at is a place in the request.
func (h *http1) at(location string) where {
	w := h.place
	w.location = location
	return w
}

// writeHead appends the head with a body of so many bytes, and placeholders replaced.
func (h *http1) writeHead(dst []byte, length int64) ([]byte, error) {
	target, err := h.target(h.req.target)
	if err != nil {
		return dst, err
	}
	room := len(dst) + maxHead + maxGrowth
	dst = append(dst, h.req.method+" "+target+" "+h.req.version+"\r\n"...)
	for _, f := range h.req.fields {
		value, err := h.fieldValue(f)
		if err != nil {
			return dst, err
		}
		if f.name == "content-length" && length != h.req.length {
			value = strconv.AppendInt([]byte{' '}, length, 10)
		}
		dst = append(append(append(dst, f.line[:f.value]...), value...), "\r\n"...)
		if err := fits(len(dst), room); err != nil {
			return dst, err
		}
	}
	return append(dst, "\r\n"...), nil
}

// fieldValue is the value of a field with placeholders replaced, with its blanks.
func (h *http1) fieldValue(f field) ([]byte, error) {
	value, err := h.headerValue(f.name, f.line[f.value:])
	if err == nil && len(value) > 0 && value[0] != ' ' && value[0] != '\t' && f.value < len(f.line) && f.line[f.value] == ' ' {
		value = append([]byte{' '}, value...)
	}
	return value, err
}

// body carries a body as it is.
func (h *http1) body(dst, p []byte) (out, rest []byte, err error) {
	n := min(int64(len(p)), h.left)
	h.left -= n
	if hit := h.scan.scan(p[:n], h.left == 0); hit != nil {
		return dst, nil, h.refuse(hit, h.at("body"))
	}
	if h.left == 0 {
		h.reset()
	}
	return append(dst, p[:n]...), p[n:], nil
}

// heldBody collects a body, and carries the request when it is complete.
func (h *http1) heldBody(dst, p []byte) (out, rest []byte, err error) {
	n := min(int64(len(p)), h.left)
	if err := h.keep(n); err != nil {
		return dst, nil, err
	}
	h.left -= n
	h.buf = append(h.buf, p[:n]...)
	if h.left > 0 {
		return dst, nil, nil
	}
	defer func() { _ = h.keep(-h.bodies) }()
	if hit := h.scan.scan(h.buf, true); hit != nil {
		return dst, nil, h.refuse(hit, h.at("body"))
	}
	body, _, err := h.view.replace(nil, h.buf, true, bodyValue)
	if err != nil {
		return dst, nil, err
	}
	if dst, err = h.writeHead(dst, int64(len(body))); err != nil {
		return dst, nil, err
	}
	h.other = h.other || h.req.upgrades
	h.reset()
	return append(dst, body...), p[n:], nil
}

func bodyValue(w *word) ([]byte, bool) {
	return []byte(w.secret.Value.Reveal()), w.use == substitute && w.secret.Injection.Body
}

// end implements protocol.
func (h *http1) end(dst []byte) ([]byte, error) {
	switch {
	case h.state == inHead && len(h.buf) == 0:
		return dst, nil
	case h.state == inHead && !h.begun: // the beginning of what would have been a request
		var err error
		if dst, err = h.switchTo(dst, h.buf); err != nil {
			return dst, err
		}
	case h.state != inOther:
		return dst, malformed("it ends before it is complete")
	}
	if hit := h.scan.scan(nil, true); hit != nil {
		return dst, h.refuse(hit, where{})
	}
	return dst, nil
}
