package vsock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGuestConnects(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1024, 5000)
	assert.Equal(t, Addr{CID: 2, Port: 1024}, c.LocalAddr())
	assert.Equal(t, Addr{CID: testCID, Port: 5000}, c.RemoteAddr())

	g.data(1024, 5000, []byte("hello"))
	b := make([]byte, 10)
	n, err := c.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(b[:n]))

	n, err = c.Write([]byte("world"))
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	h, p := g.recv()
	assert.Equal(t, header{
		srcCID: 2, dstCID: testCID, srcPort: 1024, dstPort: 5000, length: 5, kind: typeStream,
		op: opData, alloc: bufferSize, forwarded: 5,
	}, h, "every packet says what was read")
	assert.Equal(t, "world", string(p))

	for _, f := range []func([]byte) (int, error){c.Read, c.Write} {
		n, err := f(nil)
		assert.NoError(t, err)
		assert.Zero(t, n)
	}
}

func TestGuestIsRefused(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.listen(func(port uint32, c *Conn) bool { return false })
	g.send(header{op: opRequest, srcPort: 5000, dstPort: 77, alloc: 1000}, nil)
	h, _ := g.recv()
	assert.Equal(t, opReset, h.op)
	assert.Equal(t, uint32(77), h.srcPort)
	assert.Equal(t, uint32(5000), h.dstPort)
	g.eventually(func() bool { return g.Stats().Conns == 0 })
	g.silence()
}

func TestListenerMayCloseAtOnce(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.listen(func(port uint32, c *Conn) bool { return c.Close() == nil })
	g.send(header{op: opRequest, srcPort: 5000, dstPort: 77, alloc: 1000}, nil)
	h, _ := g.recv()
	assert.Equal(t, opReset, h.op)
	g.eventually(func() bool { return g.Stats().Conns == 0 })
	g.silence()
}

func TestHostDials(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.dial(80)
	h := g.sentRequest
	assert.Equal(t, header{
		srcCID: 2, dstCID: testCID, srcPort: c.key.host, dstPort: 80, kind: typeStream,
		op: opRequest, alloc: bufferSize,
	}, h)
	g.exchange(c)

	second := g.dial(80)
	assert.NotEqual(t, c.key.host, second.key.host)
	g.exchange(second)
	g.exchange(c)
}

func TestHostIsRefused(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	failed := make(chan error)
	go func() {
		_, err := g.Dial(context.Background(), 81)
		failed <- err
	}()
	h, _ := g.recv()
	g.send(header{op: opReset, srcPort: 81, dstPort: h.srcPort}, nil)
	err := <-failed
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.ErrorContains(t, err, "dial vsock 42:81")
	assert.Zero(t, g.Stats().Conns)
	g.silence()
}

func TestDialGivesUp(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := g.Dial(ctx, 80)
	require.ErrorIs(t, err, context.Canceled)
	g.silence()

	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = g.Dial(ctx, 80)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	request, _ := g.recv()
	assert.Equal(t, opRequest, request.op)
	h, _ := g.recv()
	assert.Equal(t, opReset, h.op, "the guest must not keep half a connection")
	assert.Equal(t, request.srcPort, h.srcPort)

	// The answer comes late, to nobody.
	g.send(header{op: opResponse, srcPort: 80, dstPort: request.srcPort, alloc: 1000}, nil)
	h, _ = g.recv()
	assert.Equal(t, opReset, h.op)
}

func TestDialWithoutDriver(t *testing.T) {
	t.Parallel()
	d, err := New(Config{GuestCID: 3})
	require.NoError(t, err)
	_, err = d.Dial(context.Background(), 80)
	require.ErrorIs(t, err, ErrNotReady)
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
}

func TestDialThatTheGuestEndsAtOnce(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	done := make(chan *Conn)
	go func() {
		c, err := g.Dial(context.Background(), 80)
		assert.NoError(t, err)
		done <- c
	}()
	h, _ := g.recv()
	back := header{srcPort: 80, dstPort: h.srcPort, alloc: 1000}
	response, shutdown := back, back
	response.op = opResponse
	shutdown.op, shutdown.flags = opShutdown, shutdownBoth
	g.sendAll(packet{h: response}, packet{h: shutdown})
	c := <-done
	_, err := c.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	h, _ = g.recv()
	assert.Equal(t, opReset, h.op)
}

func TestHalfCloseByHost(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	require.NoError(t, c.CloseWrite())
	require.NoError(t, c.CloseWrite())
	h, _ := g.recv()
	assert.Equal(t, opShutdown, h.op)
	assert.Equal(t, uint32(shutdownSend), h.flags)
	_, err := c.Write([]byte("x"))
	assert.ErrorIs(t, err, syscall.EPIPE)

	g.data(1, 2, []byte("still open"))
	b := make([]byte, 20)
	n, err := c.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "still open", string(b[:n]))

	require.NoError(t, c.Close())
	h, _ = g.recv()
	assert.Equal(t, opShutdown, h.op)
	assert.Equal(t, uint32(shutdownBoth), h.flags)
	g.send(header{op: opReset, srcPort: 2, dstPort: 1}, nil)
	g.eventually(func() bool { return g.Stats().Conns == 0 })
	assert.ErrorIs(t, c.CloseWrite(), net.ErrClosed)
}

func TestHalfCloseByGuest(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.data(1, 2, []byte("last words"))
	g.send(header{op: opShutdown, flags: shutdownSend, srcPort: 2, dstPort: 1, alloc: 1000}, nil)
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "last words", string(all))
	_, err = c.Write([]byte("answer"))
	require.NoError(t, err)
	_, p := g.recv()
	assert.Equal(t, "answer", string(p))

	g.send(header{op: opShutdown, flags: shutdownReceive, srcPort: 2, dstPort: 1, alloc: 1000}, nil)
	h, _ := g.recv()
	assert.Equal(t, opReset, h.op, "both directions are shut")
	_, err = c.Write([]byte("x"))
	assert.ErrorIs(t, err, syscall.EPIPE)
	_, err = c.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	require.NoError(t, c.Close())
	g.silence()
}

// TestGuestClosesWithDataUnread is what Linux does when a program exits after its last
// write: data, then a shutdown of both directions.
func TestGuestClosesWithDataUnread(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.data(1, 2, bytes.Repeat([]byte("z"), 100000))
	g.send(header{op: opShutdown, flags: shutdownBoth, srcPort: 2, dstPort: 1, alloc: 1000}, nil)
	h, _ := g.recv()
	assert.Equal(t, opReset, h.op, "at once: the guest waits for it")
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Len(t, all, 100000)
	// The guest may use the port again at once.
	again := g.connect(1, 2)
	require.NoError(t, c.Close())
	g.exchange(again)
}

func TestCloseWaitsForTheGuestsReset(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	require.NoError(t, c.Close())
	h, _ := g.recv()
	assert.Equal(t, opShutdown, h.op)
	assert.Equal(t, uint32(shutdownBoth), h.flags)
	assert.Equal(t, 1, g.Stats().Conns, "the port is not free yet")
	g.data(1, 2, []byte("crossed the shutdown"))
	g.silence()
	g.send(header{op: opReset, srcPort: 2, dstPort: 1}, nil)
	g.eventually(func() bool { return g.Stats().Conns == 0 })
	g.silence()
	assert.ErrorIs(t, c.Close(), net.ErrClosed)
	for _, f := range []func([]byte) (int, error){c.Read, c.Write} {
		_, err := f(make([]byte, 1))
		assert.ErrorIs(t, err, net.ErrClosed)
	}
	assert.ErrorIs(t, c.SetDeadline(time.Time{}), net.ErrClosed)
}

func TestBothCloseAtOnce(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	require.NoError(t, c.Close())
	g.send(header{op: opShutdown, flags: shutdownBoth, srcPort: 2, dstPort: 1, alloc: 1000}, nil)
	h, _ := g.recv()
	assert.Equal(t, opShutdown, h.op)
	h, _ = g.recv()
	assert.Equal(t, opReset, h.op, "else both would wait for 8 s")
	g.eventually(func() bool { return g.Stats().Conns == 0 })
}

func TestLingerEndsWithAReset(t *testing.T) {
	t.Parallel()
	g := newGuest(t, func(d *Device) { d.linger = 30 * time.Millisecond })
	c := g.connect(1, 2)
	require.NoError(t, c.Close())
	h, _ := g.recv()
	assert.Equal(t, opShutdown, h.op)
	h, _ = g.recv()
	assert.Equal(t, opReset, h.op)
	g.eventually(func() bool { return g.Stats().Conns == 0 })
}

func TestGuestResets(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.data(1, 2, []byte("abc"))
	g.send(header{op: opReset, srcPort: 2, dstPort: 1}, nil)
	g.eventually(func() bool { return g.Stats().Conns == 0 })
	b := make([]byte, 10)
	n, err := c.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "abc", string(b[:n]), "what came before the reset is not lost")
	_, err = c.Read(b)
	require.ErrorIs(t, err, ErrReset)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = c.Write(b)
	require.ErrorIs(t, err, ErrReset)
	require.ErrorIs(t, c.CloseWrite(), ErrReset)
	require.NoError(t, c.Close())
	g.silence()
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	calls := map[string]struct {
		set  func(time.Time) error
		call func([]byte) (int, error)
	}{
		"read":  {c.SetReadDeadline, c.Read},
		"write": {c.SetWriteDeadline, c.Write},
	}
	g.window(1, 2, 0)
	for name, f := range calls {
		b := make([]byte, 1)
		require.NoError(t, f.set(time.Now().Add(-time.Second)))
		_, err := f.call(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, name)
		var timeout net.Error
		require.True(t, errors.As(err, &timeout) && timeout.Timeout(), name)

		start := time.Now()
		require.NoError(t, f.set(start.Add(40*time.Millisecond)))
		_, err = f.call(b)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, name)
		assert.GreaterOrEqual(t, time.Since(start), 40*time.Millisecond, name)

		// A call under way sees a new deadline.
		require.NoError(t, f.set(time.Now().Add(time.Hour)))
		failed := make(chan error)
		go func() {
			_, err := f.call(b)
			failed <- err
		}()
		select {
		case err := <-failed:
			require.Fail(t, "early", "%s: %v", name, err)
		case <-time.After(20 * time.Millisecond):
		}
		require.NoError(t, f.set(time.Unix(1, 0)))
		require.ErrorIs(t, <-failed, os.ErrDeadlineExceeded, name)
		require.NoError(t, f.set(time.Time{}))
	}
	request, _ := g.recv()
	assert.Equal(t, opCreditRequest, request.op)
	g.window(1, 2, 1000)
	g.exchange(c)
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.window(1, 2, 0)
	var wg sync.WaitGroup
	for _, f := range []func([]byte) (int, error){c.Read, c.Write, c.Read, c.Write} {
		wg.Go(func() {
			_, err := f(make([]byte, 1))
			assert.ErrorIs(t, err, net.ErrClosed)
		})
	}
	h, _ := g.recv()
	assert.Equal(t, opCreditRequest, h.op)
	require.NoError(t, c.Close())
	wg.Wait()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {GuestCID: 2}, {GuestCID: 1<<32 - 1}, {GuestCID: 1 << 40}, {GuestCID: 3, MaxConns: -1}} {
		_, err := New(cfg)
		require.ErrorIs(t, err, ErrConfig, "%+v", cfg)
	}
	d, err := New(Config{GuestCID: 0x01020304})
	require.NoError(t, err)
	assert.Equal(t, uint32(19), d.ID())
	assert.Equal(t, uint64(1), d.Features())
	assert.Len(t, d.QueueSizes(), 3)
	for off, want := range map[uint32][]byte{
		0: {4, 3, 2, 1, 0, 0, 0, 0, 0, 0}, 2: {2, 1, 0, 0}, 7: {0, 0}, 8: {0}, 1<<32 - 1: {0, 0, 0, 0},
	} {
		got := bytes.Repeat([]byte{0xff}, len(want))
		d.ReadConfig(off, got)
		assert.Equal(t, want, got, "offset %d", off)
	}
	d.WriteConfig(0, []byte{9})
	got := make([]byte, 1)
	d.ReadConfig(0, got)
	assert.Equal(t, byte(4), got[0])
}
