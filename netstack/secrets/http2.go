package secrets

import (
	"encoding/binary"
)

// Limits of HTTP/2.
const (
	maxBlock   = 64 << 10 // bytes of an encoded header block, and of a decoded one
	maxFields  = 1024     // of a decoded header block
	maxStreams = 1024     // open at a time
	maxPayload = 16 << 10 // bytes of a frame that is not DATA, RFC 9113 §4.2
	tableSize  = 4096     // bytes of the table of RFC 7541
)

// Types of frames, RFC 9113 §6.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9
)

// Flags of frames.
const (
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const frameHeader = 9

// http2 carries requests of HTTP/2, RFC 9113: it encodes their header blocks anew and
// leaves all other frames as they are.
type http2 struct {
	*engine
	preface int    // bytes of the preface that have been seen
	buf     []byte // a frame, or the header of one of DATA
	fields  *fields
	streams map[uint32]*stream // open at the guest's end
	last    uint32             // highest stream so far

	// Of the DATA frame that is being carried:
	left   int     // bytes of it, with padding
	pad    int     // bytes of padding at its end
	flags  byte    // its flags
	id     uint32  // its stream
	length bool    // the byte with the length of the padding comes next
	stream *stream // of id

	// Of the header block that is being collected:
	block    []byte
	blocked  bool   // nothing but its continuation may come
	blockID  uint32 // its stream
	endsData bool   // it has END_STREAM
}

// stream is a request that the guest has not ended.
type stream struct {
	place where
	scan  scanner
}

func newHTTP2(e *engine) *http2 {
	return &http2{engine: e, streams: make(map[uint32]*stream), fields: newFields()}
}

// write implements protocol.
func (h *http2) write(dst, p []byte) (out []byte, err error) {
	if n := min(len(preface)-h.preface, len(p)); n > 0 {
		dst = append(dst, p[:n]...) // it has been recognised
		h.preface += n
		p = p[n:]
	}
	for len(p) > 0 && err == nil {
		if h.left > 0 {
			dst, p, err = h.data(dst, p)
			continue
		}
		dst, p, err = h.frame(dst, p)
	}
	return dst, err
}

// end implements protocol.
func (h *http2) end(dst []byte) ([]byte, error) {
	if len(h.buf) > 0 || h.left > 0 || h.blocked {
		return dst, malformed("it ends within a frame")
	}
	for _, s := range h.streams {
		if hit := s.scan.scan(nil, true); hit != nil {
			return dst, h.refuse(hit, s.body())
		}
	}
	return dst, nil
}

// frame collects a frame and carries it; of DATA, only the header.
func (h *http2) frame(dst, p []byte) (out, rest []byte, err error) {
	if p = h.collect(p, frameHeader); len(h.buf) < frameHeader {
		return dst, p, nil
	}
	size := int(h.buf[0])<<16 | int(h.buf[1])<<8 | int(h.buf[2])
	kind, flags, id := h.buf[3], h.buf[4], binary.BigEndian.Uint32(h.buf[5:])&(1<<31-1)
	if h.blocked && (kind != frameContinuation || id != h.blockID) {
		return dst, nil, malformed("a header block is interrupted")
	}
	if kind == frameData {
		dst, err = h.beginData(dst, size, flags, id)
		return dst, p, err
	}
	if size > maxPayload {
		return dst, nil, malformed("a frame of type %d has %d bytes, at most %d", kind, size, maxPayload)
	}
	if p = h.collect(p, frameHeader+size); len(h.buf) < frameHeader+size {
		return dst, p, nil
	}
	frame := h.buf
	h.buf = nil
	dst, err = h.whole(dst, frame, kind, flags, id)
	return dst, p, err
}

// collect moves bytes of p to h.buf until that has n.
func (h *http2) collect(p []byte, n int) (rest []byte) {
	k := min(len(p), max(0, n-len(h.buf)))
	h.buf = append(h.buf, p[:k]...)
	return p[k:]
}

// whole carries a complete frame other than DATA.
func (h *http2) whole(dst, frame []byte, kind, flags byte, id uint32) ([]byte, error) {
	payload := frame[frameHeader:]
	switch kind {
	case frameHeaders:
		return h.headers(dst, payload, flags, id)
	case frameContinuation:
		if !h.blocked {
			return dst, malformed("a header block is continued that has not begun")
		}
		return h.fragment(dst, payload, flags)
	case framePushPromise:
		return dst, malformed("a client promises to push")
	case frameReset:
		delete(h.streams, id)
	case framePriority, frameSettings, framePing, frameWindowUpdate:
	default: // frameGoAway and unknown ones: the server may make anything of them
		if hit := h.view.find(payload); hit != nil {
			return dst, h.refuse(hit, where{protocol: "http/2", stream: id})
		}
	}
	return append(dst, frame...), nil
}

// headers begins a header block.
func (h *http2) headers(dst, payload []byte, flags byte, id uint32) ([]byte, error) {
	_, open := h.streams[id]
	switch {
	case id%2 == 0:
		return dst, malformed("a client opens stream %d", id)
	case !open && id <= h.last:
		return dst, malformed("stream %d has ended and is used again", id)
	case open && flags&flagEndStream == 0:
		return dst, malformed("stream %d has a second header block that is no trailer", id)
	case !open && len(h.streams) >= maxStreams:
		return dst, malformed("it has more than %d open streams", maxStreams)
	}
	payload, ok := unpad(payload, flags)
	if flags&flagPriority != 0 {
		ok = ok && len(payload) >= 5
		payload = payload[min(5, len(payload)):]
	}
	if !ok {
		return dst, malformed("a frame with headers is shorter than it says")
	}
	h.blocked, h.blockID, h.endsData = true, id, flags&flagEndStream != 0
	return h.fragment(dst, payload, flags)
}

// unpad removes padding.
func unpad(p []byte, flags byte) ([]byte, bool) {
	if flags&flagPadded == 0 {
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}

// fragment collects a header block, and carries it when it is complete.
func (h *http2) fragment(dst, p []byte, flags byte) ([]byte, error) {
	if len(h.block)+len(p) > maxBlock {
		return dst, malformed("its header block has more than %d bytes", maxBlock)
	}
	h.block = append(h.block, p...)
	if flags&flagEndHeaders == 0 {
		return dst, nil
	}
	block := h.block
	h.block, h.blocked = nil, false
	return h.complete(dst, block)
}

// complete carries a complete header block.
func (h *http2) complete(dst, block []byte) ([]byte, error) {
	list, err := h.fields.decode(block)
	if err != nil {
		return dst, err
	}
	s := h.streams[h.blockID]
	trailer := s != nil
	if !trailer {
		s = &stream{}
		if s.place, err = h.request(list); err != nil {
			return dst, err
		}
		s.place.stream = h.blockID
		s.scan = scanner{view: h.view, bodies: true}
		h.last = h.blockID
		h.streams[h.blockID] = s
	}
	if err := h.check(list, trailer, s.place); err != nil {
		return dst, err
	}
	out, err := h.encode(sizeUpdates(block), list, trailer)
	if err != nil {
		return dst, err
	}
	if h.endsData {
		if err := h.finish(h.blockID); err != nil {
			return dst, err
		}
	}
	return appendBlock(dst, out, h.blockID, h.endsData), nil
}

// finish forgets a stream that the guest has ended.
func (h *http2) finish(id uint32) error {
	s := h.streams[id]
	delete(h.streams, id)
	if hit := s.scan.scan(nil, true); hit != nil {
		return h.refuse(hit, s.body())
	}
	return nil
}

// body is the place of the stream's data.
func (s *stream) body() where {
	w := s.place
	w.location = "body"
	return w
}

// appendBlock appends a header block as frames.
func appendBlock(dst, block []byte, id uint32, endStream bool) []byte {
	kind, flags := byte(frameHeaders), byte(0)
	if endStream {
		flags = flagEndStream
	}
	for first := true; first || len(block) > 0; first = false {
		n := min(len(block), maxPayload)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
		dst = binary.BigEndian.AppendUint32(dst, id)
		dst = append(dst, block[:n]...)
		block, kind, flags = block[n:], frameContinuation, 0
	}
	return dst
}

// beginData carries the header of a DATA frame.
func (h *http2) beginData(dst []byte, size int, flags byte, id uint32) ([]byte, error) {
	s := h.streams[id]
	if s == nil {
		return dst, malformed("data on stream %d, which is not open", id)
	}
	padded := flags&flagPadded != 0
	if padded && size == 0 {
		return dst, malformed("a frame with data is shorter than it says")
	}
	dst = append(dst, h.buf...)
	h.buf = h.buf[:0]
	h.left, h.pad, h.flags, h.id, h.length, h.stream = size, 0, flags, id, padded, s
	if size > 0 {
		return dst, nil
	}
	return dst, h.endData()
}

// data carries what of p belongs to the DATA frame.
func (h *http2) data(dst, p []byte) (out, rest []byte, err error) {
	if h.length {
		h.length, h.pad = false, int(p[0])
		if h.left--; h.pad > h.left {
			return dst, nil, malformed("a frame with data is shorter than it says")
		}
		dst, p = append(dst, p[0]), p[1:]
	}
	if n := min(len(p), h.left-h.pad); n > 0 {
		if hit := h.stream.scan.scan(p[:n], false); hit != nil {
			return dst, nil, h.refuse(hit, h.stream.body())
		}
		dst, p = append(dst, p[:n]...), p[n:]
		h.left -= n
	}
	if n := min(len(p), h.left, h.pad); n > 0 && h.left == h.pad {
		dst, p = append(dst, p[:n]...), p[n:]
		h.left, h.pad = h.left-n, h.pad-n
	}
	if h.left > 0 {
		return dst, p, nil
	}
	return dst, p, h.endData()
}

// endData ends a DATA frame.
func (h *http2) endData() error {
	h.stream = nil
	if h.flags&flagEndStream == 0 {
		return nil
	}
	return h.finish(h.id)
}
