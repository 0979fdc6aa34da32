package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/netstack/secrets"
)

// bufferSize is what is carried at once: no segment of the guest's is larger.
const bufferSize = 64 << 10

// buffers are used while there is something in them, so that idle connections have none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// pair is a connection of the guest's joined with one of the host's.
type pair struct {
	guest   *guestConn
	host    net.Conn
	sub     *substituted // what the guest sends goes through it; nil: it goes as it is
	ctx     context.Context
	stop    context.CancelFunc
	unblock func() bool
	halting atomic.Bool
	ended   chan error // how the direction to the guest did
}

// splice carries bytes both ways until both directions have ended; either may end first.
// first goes to the host before all else. What the guest sends goes through rw, unless
// that is nil. Both connections are over when it returns; the error is why they did not
// end in good order.
func splice(ctx context.Context, guest *guestConn, host net.Conn, first []byte, rw secrets.Rewriter) error {
	return join(ctx, guest, host).carry(ctx, first, rw)
}

// join begins to carry what the host sends. Another call must follow.
func join(ctx context.Context, guest *guestConn, host net.Conn) *pair {
	p := &pair{guest: guest, host: host, ended: make(chan error, 1)}
	p.ctx, p.stop = context.WithCancel(ctx)
	p.unblock = context.AfterFunc(p.ctx, func() { _ = host.SetDeadline(time.Unix(1, 0)) })
	p.start()
	return p
}

// start carries what the host sends.
func (p *pair) start() {
	p.guest.workers.run(func() {
		err := p.down()
		if err != nil && !(p.halting.Load() && errors.Is(err, os.ErrDeadlineExceeded)) {
			p.stop()
		}
		p.ended <- err
	})
}

// halt has nothing more carried to the guest, until start is called. It reports whether
// there may be more.
func (p *pair) halt() bool {
	p.halting.Store(true)
	defer p.halting.Store(false)
	_ = p.host.SetReadDeadline(time.Unix(1, 0))
	err := <-p.ended
	if p.ctx.Err() != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		p.ended <- err
		return false
	}
	p.readBefore(time.Time{})
	return true
}

// readBefore sets the deadline for reading from the host.
func (p *pair) readBefore(t time.Time) {
	_ = p.host.SetReadDeadline(t)
	if p.ctx.Err() != nil { // now, perhaps, so that its deadline is gone
		_ = p.host.SetDeadline(time.Unix(1, 0))
	}
}

// release gives up the connections, which stay open. Nothing is carried.
func (p *pair) release() {
	p.unblock()
	p.stop()
}

// close ends both connections in good order. Nothing is carried.
func (p *pair) close(ctx context.Context) {
	p.release()
	_ = p.host.Close()
	p.guest.close(ctx)
}

// carry is the rest of splice.
func (p *pair) carry(ctx context.Context, first []byte, rw secrets.Rewriter) error {
	if rw != nil {
		p.sub = &substituted{w: p.host, rw: rw}
		defer p.sub.close()
	}
	up := p.up(first)
	if up != nil {
		p.stop()
	}
	err := errors.Join(up, <-p.ended)
	if err == nil {
		p.close(ctx)
		return nil
	}
	p.release()
	p.guest.abort()
	reset(p.host)
	return err
}

// reset closes a connection of the host's with RST.
func reset(host net.Conn) {
	if t, ok := host.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = host.Close()
}

// up carries what the guest sends, and its FIN.
func (p *pair) up(first []byte) error {
	if len(first) > 0 {
		if err := p.send(first); err != nil {
			return err
		}
	}
	for {
		n, err := p.upOnce()
		switch {
		case err == io.EOF:
			if err := p.end(); err != nil {
				return err
			}
			if h, ok := p.host.(interface{ CloseWrite() error }); ok {
				return h.CloseWrite()
			}
			return nil
		case err != nil:
			return err
		case n == 0:
			if err := p.guest.wait(p.ctx); err != nil {
				return err
			}
		}
	}
}

// upOnce carries what there is; 0 means nothing now.
func (p *pair) upOnce() (int, error) {
	b := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(b)
	n, ok, err := p.guest.tryRead(b[:])
	if !ok || err != nil {
		return 0, err
	}
	return n, p.send(b[:n])
}

// send sends to the host.
func (p *pair) send(b []byte) error {
	if p.sub != nil {
		_, err := p.sub.Write(b)
		return err
	}
	_, err := p.host.Write(b)
	return err
}

// end sends what is left to send.
func (p *pair) end() error {
	if p.sub != nil {
		return p.sub.end()
	}
	return nil
}

// down carries what the host sends, and its FIN.
func (p *pair) down() error {
	r := newHostReader(p.host)
	for {
		b, n, err := r.read()
		switch {
		case err == io.EOF:
			if e := p.guest.finish(p.ctx, b[:n]); e != nil {
				err = e
			}
		case n > 0:
			if e := p.guest.write(p.ctx, b[:n]); e != nil {
				err = e
			}
		}
		r.release(b)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// hostReader reads from a connection of the host's into a buffer that it takes when there
// is something to read.
type hostReader struct {
	conn net.Conn
	raw  syscall.RawConn // nil: conn has none
	try  func(fd uintptr) bool
	most int // bytes at once: of a stream, what the stack sends at once

	stream bool // conn has no datagrams
	buf    *[bufferSize]byte
	n      int
	err    error
}

func newHostReader(c net.Conn) *hostReader {
	r := &hostReader{conn: c, most: bufferSize}
	if _, r.stream = c.(*net.TCPConn); r.stream {
		r.most = maxPayload
	}
	if s, ok := c.(syscall.Conn); ok {
		r.raw, _ = s.SyscallConn()
		r.try = r.tryRead
	}
	return r
}

// read waits for the next bytes, or the next datagram. There may be bytes, and an error that
// comes after them. The buffer goes back by release.
func (r *hostReader) read() (*[bufferSize]byte, int, error) {
	r.buf, r.n, r.err = nil, 0, nil
	if r.raw == nil {
		r.buf = buffers.Get().(*[bufferSize]byte)
		r.n, r.err = r.conn.Read(r.buf[:r.most])
		return r.buf, r.n, r.err
	}
	if err := r.raw.Read(r.try); err != nil {
		return r.buf, r.n, err
	}
	return r.buf, r.n, r.err
}

func (r *hostReader) release(b *[bufferSize]byte) {
	if b != nil {
		buffers.Put(b)
	}
}
