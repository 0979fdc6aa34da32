package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

var (
	// errReset reports that the guest sent RST.
	errReset = errors.New("connection reset by the guest")
	errGone  = errors.New("connection is closed")
)

// finWait is how long a guest may keep its end of a connection open of which the other end
// is closed. The stack itself would wait for ever.
const finWait = time.Minute

const (
	// smallWrite is what takes less room than what the stack remembers about it.
	smallWrite = 512
	// maxSmall is how many of these there may be before the guest must acknowledge them.
	maxSmall = 256
)

// guestConn is the stack's end of a TCP connection with the guest. One goroutine may read
// while another writes.
type guestConn struct {
	ep      tcpip.Endpoint
	link    *link // that ep sends on
	queue   waiter.Queue
	workers *workers // for what runs besides

	in, out         waiter.Entry
	readable, space chan struct{}     // signalled when it may be
	reader          bytes.Reader      // of write
	small           int               // writes, since the connection began
	writer          tcpip.SliceWriter // of tryRead
}

// watch has the stack signal changes. c.ep is set.
func (c *guestConn) watch() {
	c.in, c.readable = waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.out, c.space = waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&c.in)
	c.queue.EventRegister(&c.out)
}

func (c *guestConn) unwatch() {
	c.queue.EventUnregister(&c.in)
	c.queue.EventUnregister(&c.out)
}

// close gives the connection up and waits until the guest has what was written, and FIN.
// Until then the stack keeps that in memory, for as long as the guest has no room for it:
// whoever counts connections must count this one. It is aborted if ctx is done first, or
// if the guest has it all but leaves its own end open for finWait.
func (c *guestConn) close(ctx context.Context) { c.closeWithin(ctx, finWait) }

func (c *guestConn) closeWithin(ctx context.Context, wait time.Duration) {
	defer c.unwatch()
	c.ep.Close()
	late := time.NewTicker(wait)
	defer late.Stop()
	for {
		state := tcp.EndpointState(c.ep.State())
		switch state {
		case tcp.StateClose, tcp.StateError:
			return
		case tcp.StateTimeWait:
			finish(c.ep)
			return
		}
		select {
		case <-c.space:
		case <-late.C:
			if state == tcp.StateFinWait2 {
				c.ep.Abort()
				return
			}
		case <-ctx.Done():
			c.ep.Abort()
			return
		}
	}
}

// finish marks an endpoint that nobody uses any more, though the stack remembers it, for
// finished: it is closed already, so that the option has no other meaning.
func finish(ep tcpip.Endpoint) { ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true}) }

func finished(ep tcpip.Endpoint) bool { return ep.SocketOptions().GetLinger().Enabled }

// abort gives the connection up with RST.
func (c *guestConn) abort() {
	c.unwatch()
	c.ep.Abort()
}

// tryRead reads what the guest has sent; ok is false if that is nothing yet. The error is
// io.EOF after the guest's FIN.
func (c *guestConn) tryRead(p []byte) (n int, ok bool, err error) {
	c.writer = p
	res, e := c.ep.Read(&c.writer, tcpip.ReadOptions{})
	c.writer = nil
	switch e.(type) {
	case nil:
		return res.Count, true, nil
	case *tcpip.ErrBadBuffer: // p is full before the first byte: it is empty
		return 0, true, nil
	case *tcpip.ErrWouldBlock:
		return 0, false, nil
	case *tcpip.ErrClosedForReceive:
		return 0, true, io.EOF
	}
	return 0, true, connError(e)
}

// read waits for what the guest sends, or until ctx is done.
func (c *guestConn) read(ctx context.Context, p []byte) (int, error) {
	for {
		if n, ok, err := c.tryRead(p); ok {
			return n, err
		}
		if err := c.wait(ctx); err != nil {
			return 0, err
		}
	}
}

// wait returns when tryRead may give something.
func (c *guestConn) wait(ctx context.Context) error {
	select {
	case <-c.readable:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write sends p to the guest, as fast as it takes it.
func (c *guestConn) write(ctx context.Context, p []byte) error {
	for {
		n, err := c.tryWrite(p)
		if p = p[n:]; err != nil || len(p) == 0 {
			return err
		}
		select {
		case <-c.space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// finish is write and closeWrite. What the guest can take of p at once it gets with FIN, by one
// interrupt.
func (c *guestConn) finish(ctx context.Context, p []byte) error {
	c.link.cork()
	n, err := c.tryWrite(p)
	if n == len(p) && err == nil {
		c.closeWrite()
	}
	c.link.uncork()
	if n == len(p) || err != nil {
		return err
	}
	if err := c.write(ctx, p[n:]); err != nil {
		return err
	}
	c.closeWrite()
	return nil
}

// tryWrite sends what the stack has room for, and reports how much that is.
func (c *guestConn) tryWrite(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.bound(len(p))
	c.reader.Reset(p)
	n, err := c.ep.Write(&c.reader, tcpip.WriteOptions{})
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock:
		return int(n), nil
	}
	return int(n), connError(err)
}

// bound keeps a guest that acknowledges nothing from having the stack remember each byte of
// a megabyte by itself. It lowers the room that there is for bytes; the stack raises it again
// when some are acknowledged.
func (c *guestConn) bound(n int) {
	if n >= smallWrite {
		return
	}
	if c.small++; c.small%maxSmall == 0 {
		c.ep.SocketOptions().SetSendBufferSize(minBuffer, false)
	}
}

// closeWrite sends FIN after all that was written.
func (c *guestConn) closeWrite() { c.ep.Shutdown(tcpip.ShutdownWrite) }

func connError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted, *tcpip.ErrTimeout:
		return errReset
	}
	return errGone
}
