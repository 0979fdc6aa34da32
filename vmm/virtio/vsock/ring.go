package vsock

import "sync"

const (
	minRing   = 4 << 10 // bytes
	maxSpares = 16
)

// ring is a byte queue. The zero ring is empty and holds no memory; another one holds
// minRing bytes, or bufferSize once it had to hold more.
type ring struct {
	buf  []byte // length is a power of two
	head int    // index of the first byte
	size int    // bytes in the queue
}

// write appends n bytes: those of parts after the first skip. Precondition: parts hold
// skip+n bytes, and r.size+n <= bufferSize, which credit.accept has checked.
func (r *ring) write(parts [][]byte, skip, n int, spares *pool) {
	if r.size+n > len(r.buf) {
		r.grow(r.size+n, spares)
	}
	for _, p := range parts {
		if skip >= len(p) {
			skip -= len(p)
			continue
		}
		p = p[skip:]
		skip = 0
		tail := (r.head + r.size) & (len(r.buf) - 1)
		first := copy(r.buf[tail:], p)
		copy(r.buf, p[first:])
		r.size += len(p)
	}
}

// read moves up to len(p) bytes into p.
func (r *ring) read(p []byte) int {
	p = p[:min(len(p), r.size)]
	n := copy(p, r.buf[r.head:])
	copy(p[n:], r.buf)
	r.size -= len(p)
	if r.size == 0 {
		r.head = 0 // the next payload is one copy
	} else {
		r.head = (r.head + len(p)) & (len(r.buf) - 1)
	}
	return len(p)
}

func (r *ring) grow(need int, spares *pool) {
	size := minRing
	if need > minRing {
		size = bufferSize
	}
	bigger := ring{buf: spares.get(size)}
	bigger.size = copy(bigger.buf, r.buf[r.head:min(r.head+r.size, len(r.buf))])
	bigger.size += copy(bigger.buf[bigger.size:], r.buf[:r.size-bigger.size])
	spares.put(r.buf)
	*r = bigger
}

// release gives up all contents and memory.
func (r *ring) release(spares *pool) {
	spares.put(r.buf)
	*r = ring{}
}

// idle gives up the memory of an empty ring unless it is small, so that a connection
// that once carried much costs little while it waits.
func (r *ring) idle(spares *pool) {
	if r.size == 0 && len(r.buf) > minRing {
		r.release(spares)
	}
}

// pool keeps a few full-size buffers, which busy connections take in turn.
type pool struct {
	mu     sync.Mutex
	spares [maxSpares][]byte // protected by mu
	n      int               // protected by mu
}

func (p *pool) get(size int) []byte {
	if size == bufferSize {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.n > 0 {
			p.n--
			b := p.spares[p.n]
			p.spares[p.n] = nil
			return b
		}
	}
	return make([]byte, size)
}

func (p *pool) put(b []byte) {
	if len(b) != bufferSize {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n < maxSpares {
		p.spares[p.n] = b
		p.n++
	}
}
