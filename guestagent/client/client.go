package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/guestagent/flow"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// Options tune a Client; the zero value is usable. Sizes are bytes.
type Options struct {
	// HandshakeTimeout bounds the wait for the relay's first bytes; 0 means 10 s. The
	// relay stays silent until the guest is ready.
	HandshakeTimeout time.Duration
	// RetryFor makes Dial try again while the socket is missing, refuses or closes before
	// the handshake, for at most this long in all; the handshake may then take as long.
	// 0 means one attempt.
	RetryFor time.Duration
	// FrameTimeout bounds the arrival of one frame once it has begun; 0 means 30 s.
	FrameTimeout time.Duration
	// StallLimit is how long an unread session may hold up others; 0 means 30 s.
	StallLimit time.Duration
	// SessionBuffer is how much output of a session may be unread; 0 means 1 MiB.
	SessionBuffer int
	// TotalBuffer bounds unread output of all sessions; 0 means 64 MiB.
	TotalBuffer int
	// MaxCollect bounds ReadFile and ExecCollect; 0 means 1 GiB.
	MaxCollect int64
	// Logger gets debug messages about ignored frames; nil means none.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.HandshakeTimeout, 10*time.Second)
	setDefault(&o.FrameTimeout, 30*time.Second)
	setDefault(&o.StallLimit, 30*time.Second)
	setDefault(&o.SessionBuffer, 1<<20)
	setDefault(&o.TotalBuffer, 64<<20)
	setDefault(&o.MaxCollect, 1<<30)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T ~int | ~int64](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// Client is one connection to a sandbox's relay. Its methods may be called concurrently.
// Close it when done; commands it started and did not wait for are then killed by the
// relay.
type Client struct {
	opts       Options
	conn       net.Conn
	shake      proto.Handshake
	generation uint8

	write writer
	flow  *flow.Teller // nil if the guest knows no windows

	mu      sync.Mutex
	pending map[uint32]*session   // by id, until the guest ends it
	live    map[*session]struct{} // until read to the end or abandoned
	nextID  uint32
	err     error // set once, before done is closed

	done     chan struct{}
	closed   sync.Once
	space    chan struct{} // signals the read loop that a queue shrank
	buffered atomic.Int64
	workers  sync.WaitGroup
}

// Dial connects to the agent socket at path and performs the handshake. The errors of the
// connection are those of net.Dialer; those of the handshake wrap proto.ErrHandshake or
// [ErrDisconnected].
func Dial(ctx context.Context, path string, opts Options) (*Client, error) {
	if opts.RetryFor <= 0 {
		return dialOnce(ctx, path, opts)
	}
	ctx, cancel := context.WithTimeout(ctx, opts.RetryFor)
	defer cancel()
	opts.HandshakeTimeout = opts.RetryFor
	var last error // of an attempt that was not cut short
	for backoff := time.Millisecond; ; backoff = min(2*backoff, 10*time.Millisecond) {
		c, err := dialOnce(ctx, path, opts)
		switch {
		case err == nil:
			return c, nil
		case last != nil && ctx.Err() != nil:
			return nil, fmt.Errorf("%w: last attempt: %w", ctx.Err(), last)
		case last != nil && errors.Is(err, context.DeadlineExceeded):
			// The dialer keeps the deadline by a timer of its own, which may be first.
			return nil, fmt.Errorf("%w: last attempt: %w", context.DeadlineExceeded, last)
		case !retryable(err):
			return nil, err
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
}

func dialOnce(ctx context.Context, path string, opts Options) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the guest agent: %w", err)
	}
	return New(ctx, conn, opts)
}

// retryable reports errors of a relay that is starting up.
func retryable(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EAGAIN) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// New performs the handshake on conn, which it owns from then on: it is closed on error.
// The context bounds the handshake only.
func New(ctx context.Context, conn net.Conn, opts Options) (*Client, error) {
	c := &Client{
		opts:    opts.withDefaults(),
		conn:    conn,
		pending: make(map[uint32]*session),
		live:    make(map[*session]struct{}),
		done:    make(chan struct{}),
		space:   make(chan struct{}, 1),
	}
	c.write.init(conn)
	in := bufio.NewReaderSize(conn, 64<<10)
	r := proto.NewReader(in)
	if err := c.handshake(ctx, r); err != nil {
		return nil, errors.Join(err, ignoreClosed(conn.Close()))
	}
	c.nextID = c.shake.IDs.First()
	if c.shake.Ready.Flow {
		c.flow = flow.New(proto.HopClient)
		c.workers.Go(func() { _ = c.flow.Run(c.done, c.tell) }) // an error has ended the connection
	}
	c.workers.Go(func() { c.readLoop(in, r) })
	return c, nil
}

func (c *Client) handshake(ctx context.Context, r *proto.Reader) error {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.opts.HandshakeTimeout)); err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	stop := interruptible(ctx, c.conn.SetReadDeadline)
	shake, err := r.ReadHandshake()
	if stop() && err != nil {
		err = ctx.Err()
	}
	switch {
	case err == nil:
	case errors.Is(err, proto.ErrHandshake), errors.Is(err, ctx.Err()):
		return fmt.Errorf("handshake with the guest agent: %w", err)
	default:
		return fmt.Errorf("handshake with the guest agent: %w: %w", ErrDisconnected, err)
	}
	if c.generation, err = proto.Negotiate(shake.Generation); err != nil {
		return fmt.Errorf("%w: %w", proto.ErrHandshake, err)
	}
	c.shake = shake
	if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return nil
}

// interruptible makes ctx interrupt blocked calls on a connection through its deadline.
// The returned function undoes that; it reports whether the context struck, in which case
// the deadline has been cleared again.
func interruptible(ctx context.Context, setDeadline func(time.Time) error) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return false }
	}
	struck := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		_ = setDeadline(time.Unix(1, 0)) // fails only on a closed connection
		close(struck)
	})
	return func() bool {
		if cancel() {
			return false
		}
		<-struck
		_ = setDeadline(time.Time{})
		return true
	}
}

// Generation returns the protocol generation in use: the lower of both sides'.
func (c *Client) Generation() uint8 { return c.generation }

// Ready returns what the guest said when it became ready.
func (c *Client) Ready() proto.Ready { return c.shake.Ready }

// ReadyBytes returns a copy of the CBOR envelope of the guest's ready message.
func (c *Client) ReadyBytes() []byte { return append([]byte(nil), c.shake.ReadyBody...) }

// IDs returns the range of ids the relay gave this connection.
func (c *Client) IDs() proto.IDRange { return c.shake.IDs }

// Done is closed when the connection has ended, for whatever reason.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended: it wraps [ErrDisconnected] or [ErrClosed]. It is
// nil while the connection lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all sessions on it and waits for the client's goroutines.
// It may be called more than once.
func (c *Client) Close() error {
	err := c.end(ErrClosed)
	c.workers.Wait()
	return err
}

// end closes the connection and fails all sessions; the first reason wins.
func (c *Client) end(reason error) error {
	var err error
	c.closed.Do(func() {
		c.mu.Lock()
		c.err = reason
		sessions := c.pending
		c.pending = nil
		c.mu.Unlock()
		close(c.done)
		err = ignoreClosed(c.conn.Close())
		for _, s := range sessions {
			s.end(reason)
		}
	})
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
