package vsock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// phase is where a connection stands in the device's table.
type phase uint8

const (
	connecting  phase = iota // the request is not answered yet, by whichever side
	established              // data flows
	closing                  // we shut both directions and wait for the guest's reset
	doomed                   // our reset waits for a buffer; what the guest sends is ignored
	gone                     // out of the table
)

// pending is a set of header-only packets that a connection has to send, lowest first.
type pending uint8

const (
	sendRequest pending = 1 << iota
	sendResponse
	sendCredit
	askCredit
	sendShutdown
	sendReset
)

// Conn is one stream between this process and the guest. It implements net.Conn; all
// methods are safe for concurrent use. Bytes that Write reported are in guest memory.
// Errors are *net.OpError and wrap ErrReset, ErrProtocol, syscall.EPIPE (the other end
// reads no more, or CloseWrite was called), os.ErrDeadlineExceeded or net.ErrClosed.
type Conn struct {
	device *Device
	key    key

	reading, writing    sync.Mutex    // one reader and one writer at a time
	readWake, writeWake chan struct{} // capacity 1: state changed, look again

	mu         sync.Mutex
	phase      phase    // protected by mu, as all below
	dialled    bool     // by us, so the guest answers the request
	closed     bool     // Close was called
	muted      bool     // Close or CloseWrite was called
	peerMuted  bool     // the guest sends no more
	peerDeaf   bool     // the guest receives no more
	asked      bool     // askCredit since the credit ran out
	pending    pending  //
	err        error    // why the connection broke, nil while it has not
	ring       ring     // from the guest, not yet read
	credit     credit   //
	readLimit  deadline //
	writeLimit deadline //
	linger     *time.Timer

	waiting bool  // in rx.waiters; protected by rx.mu
	queued  bool  // in outbox; protected by outbox.mu
	next    *Conn // in outbox; protected by outbox.mu
}

var _ net.Conn = (*Conn)(nil)

func newConn(d *Device, k key) *Conn {
	return &Conn{device: d, key: k, readWake: make(chan struct{}, 1), writeWake: make(chan struct{}, 1)}
}

// LocalAddr is the host's end: an Addr with CID 2.
func (c *Conn) LocalAddr() net.Addr { return Addr{CID: hostCID, Port: c.key.host} }

// RemoteAddr is the guest's end, an Addr.
func (c *Conn) RemoteAddr() net.Addr {
	return Addr{CID: uint32(c.device.cid), Port: c.key.guest}
}

// Read takes up to len(p) bytes that the guest sent; it waits for the first. It returns
// io.EOF when the guest has shut its direction and all is read.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		n, tell, wait, err := c.take(p)
		if tell {
			c.device.flush()
		}
		switch {
		case err == io.EOF:
			return 0, io.EOF
		case err != nil:
			return 0, c.opError("read", err)
		case !wait:
			return n, nil
		}
		<-c.readWake
	}
}

// take is one attempt to read; tell asks for a flush, wait for another attempt after
// readWake.
func (c *Conn) take(p []byte) (n int, tell, wait bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, false, false, net.ErrClosed
	case c.readLimit.expired:
		return 0, false, false, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, false, false, nil
	case c.ring.size > 0:
		n = c.ring.read(p)
		c.credit.take(n)
		if c.phase == established && !c.peerMuted && c.credit.stale() {
			c.post(sendCredit)
			tell = true
		}
		return n, tell, false, nil
	case c.peerMuted:
		return 0, false, false, io.EOF
	case c.err != nil:
		return 0, false, false, c.err
	}
	c.ring.idle(&c.device.spares)
	return 0, false, true, nil
}

// Write sends p and waits where the guest grants no credit or offers no buffer. The
// count is that of bytes sent, also with an error.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	done := 0
	for {
		n, wait, err := c.device.send(c, p[done:])
		done += n
		if err != nil {
			return done, c.opError("write", err)
		}
		if done == len(p) {
			return done, nil
		}
		if wait {
			<-c.writeWake
		}
	}
}

// canWrite says why nothing can be written; mu is held.
func (c *Conn) canWrite() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.writeLimit.expired:
		return os.ErrDeadlineExceeded
	case c.err != nil:
		return c.err
	case c.muted, c.peerDeaf:
		return syscall.EPIPE
	}
	return nil
}

// CloseWrite ends this side's direction: the guest reads end of file after what was
// written. The other direction stays open.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	switch {
	case c.closed:
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	case c.err != nil:
		err := c.err
		c.mu.Unlock()
		return c.opError("close", err)
	case !c.muted:
		c.muted = true
		c.post(sendShutdown)
		wake(c.writeWake)
	}
	c.mu.Unlock()
	c.device.flush()
	return nil
}

// Close ends the connection; calls under way fail with net.ErrClosed. The guest is told
// that both directions are shut, and gets a reset if it has not answered that with its
// own after lingerTime, as Linux does. What was written before still reaches the guest's
// reader; what was not read is lost. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.closed, c.muted = true, true
	c.readLimit.stop()
	c.writeLimit.stop()
	c.ring.release(&c.device.spares)
	switch c.phase {
	case connecting:
		c.abandon()
	case established:
		c.phase = closing
		c.post(sendShutdown)
		c.linger = time.AfterFunc(c.device.linger, c.lingerOver)
	}
	wake(c.readWake)
	wake(c.writeWake)
	c.mu.Unlock()
	c.device.flush()
	return nil
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline makes Read fail with os.ErrDeadlineExceeded after t; the zero time
// means never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.limit(&c.readLimit, c.readWake, t)
}

// SetWriteDeadline makes Write fail with os.ErrDeadlineExceeded after t; the zero time
// means never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.limit(&c.writeLimit, c.writeWake, t)
}

func (c *Conn) limit(d *deadline, waker chan struct{}, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t, c, waker)
	return nil
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: Addr{}.Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// wake lets the goroutine that waits on ch, or the next one that will, look again.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
