package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// writer puts whole frames on the connection, one caller at a time. The lock is a channel
// so that a context can end the wait for it.
type writer struct {
	conn net.Conn
	lock chan struct{}
	buf  []byte
	rest []byte // the unwritten end of a frame whose writer was interrupted
}

// errPartial reports a message of which a part was sent; the rest follows with the next.
var errPartial = errors.New("interrupted while sending")

// keepBuffer is the largest encoding buffer kept between writes.
const keepBuffer = 256 << 10

func (w *writer) init(conn net.Conn) {
	w.conn = conn
	w.lock = make(chan struct{}, 1)
}

// frame encodes one frame with f, which appends to its argument, and writes it. If the
// context ends the write in mid-frame, the rest goes out ahead of the next frame.
func (w *writer) frame(ctx context.Context, done <-chan struct{}, f func(dst []byte) ([]byte, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case w.lock <- struct{}{}:
		defer func() { <-w.lock }()
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return ErrDisconnected
	}
	b, err := f(w.buf[:0])
	if err != nil {
		return err
	}
	if cap(b) <= keepBuffer {
		w.buf = b[:0]
	}
	stop := interruptible(ctx, w.conn.SetWriteDeadline)
	begun, err := w.put(b)
	struck := stop()
	if err == nil {
		return nil
	}
	if struck && errors.Is(err, os.ErrDeadlineExceeded) {
		if begun {
			return fmt.Errorf("%w: %w", errPartial, ctx.Err())
		}
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, err)
}

// put writes the rest of an interrupted frame, then b. It keeps what remains of a frame
// that has begun and drops one that has not.
func (w *writer) put(b []byte) (begun bool, err error) {
	for len(w.rest) > 0 {
		n, err := w.conn.Write(w.rest)
		w.rest = w.rest[n:]
		if err != nil {
			return false, err
		}
	}
	w.rest = nil
	n, err := w.conn.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil && n > 0 {
		w.rest = append([]byte(nil), b[n:]...)
	}
	return n > 0, err
}

// send writes one message under id.
func (c *Client) send(ctx context.Context, id uint32, t proto.Type, payload any) error {
	return c.writeFrame(ctx, func(dst []byte) ([]byte, error) {
		return proto.AppendMessage(dst, id, t, payload)
	})
}

// sendData writes one data message under id.
func (c *Client) sendData(ctx context.Context, id uint32, t proto.Type, p []byte) error {
	return c.writeFrame(ctx, func(dst []byte) ([]byte, error) {
		return proto.AppendDataMessage(dst, id, t, p)
	})
}

// tell writes frames of the client itself.
func (c *Client) tell(f func(dst []byte) ([]byte, error)) error {
	return c.writeFrame(context.Background(), f)
}

func (c *Client) writeFrame(ctx context.Context, f func(dst []byte) ([]byte, error)) error {
	err := c.write.frame(ctx, c.done, f)
	if errors.Is(err, ErrDisconnected) {
		if ended := c.Err(); ended != nil {
			return ended
		}
		// The read loop will see the same soon; do not leave later callers waiting.
		_ = c.end(err)
	}
	return err
}
