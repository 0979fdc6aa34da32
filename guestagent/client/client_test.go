package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

func pong(g *guest, m proto.Message) {
	switch m.Type {
	case proto.TypePing:
		g.send(m.ID, proto.TypePong, proto.Empty{})
	case proto.TypeTouch:
		g.send(m.ID, proto.TypeTouched, proto.Touched{ActivitySeq: 42})
	}
}

func TestHandshake(t *testing.T) {
	c := connect(t, Options{}, pong)
	assert.Equal(t, proto.SlotRange(3), c.IDs())
	assert.Equal(t, "test", c.Ready().AgentVersion)
	assert.NotEmpty(t, c.ReadyBytes())
	assert.EqualValues(t, 7, c.Generation())
	require.NoError(t, c.Ping(testContext(t)))
	seq, err := c.Touch(testContext(t))
	require.NoError(t, err)
	assert.EqualValues(t, 42, seq)
	assert.NoError(t, c.Err())
}

func TestHandshakeErrors(t *testing.T) {
	frame := func(typ proto.Type, payload any) []byte {
		b, err := proto.AppendMessage(proto.SlotRange(0).Append(nil), 0, typ, payload)
		require.NoError(t, err)
		return b
	}
	for name, tc := range map[string]struct {
		bytes []byte
		want  error
	}{
		"closed at once":  {nil, ErrDisconnected},
		"empty range":     {[]byte{0, 0, 0, 9, 0, 0, 0, 9}, proto.ErrHandshake},
		"only id zero":    {[]byte{0, 0, 0, 0, 0, 0, 0, 1}, proto.ErrHandshake},
		"other message":   {frame(proto.TypePong, proto.Empty{}), proto.ErrHandshake},
		"bad payload":     {frame(proto.TypeReady, proto.Empty{}), proto.ErrHandshake},
		"cut off":         {frame(proto.TypeReady, proto.Ready{})[:30], ErrDisconnected},
		"huge frame":      {append(proto.SlotRange(0).Append(nil), 0xff, 0xff, 0xff, 0xff), proto.ErrFrameTooLarge},
		"tiny frame":      {append(proto.SlotRange(0).Append(nil), 0, 0, 0, 3), proto.ErrFrameTooShort},
		"generation zero": {append(proto.SlotRange(0).Append(nil), generationZero(t)...), proto.ErrHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			path := listen(t, func(conn net.Conn) { _, _ = conn.Write(tc.bytes) })
			_, err := Dial(testContext(t), path, Options{})
			assert.ErrorIs(t, err, tc.want)
		})
	}
}

func generationZero(t *testing.T) []byte {
	payload, err := proto.AppendPayload(nil, proto.Ready{})
	require.NoError(t, err)
	b, err := proto.Message{Type: proto.TypeReady, Payload: payload}.Append(nil)
	require.NoError(t, err)
	return b
}

func TestHandshakeTimeoutAndCancel(t *testing.T) {
	silent := listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	_, err := Dial(testContext(t), silent, Options{HandshakeTimeout: 20 * time.Millisecond})
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.ErrorIs(t, err, ErrDisconnected)

	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	_, err = Dial(ctx, silent, Options{})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestDialRetries(t *testing.T) {
	_, err := Dial(testContext(t), filepath.Join(t.TempDir(), "none"), Options{})
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = Dial(testContext(t), filepath.Join(t.TempDir(), "none"), Options{RetryFor: 30 * time.Millisecond})
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	// A relay that drops the first connections, as one that is starting may.
	var tries atomic.Int32
	path := listen(t, func(conn net.Conn) {
		if tries.Add(1) > 3 {
			(&guest{t: t, conn: conn, w: proto.NewWriter(conn)}).serve(proto.Generation, pong)
		}
	})
	c, err := Dial(testContext(t), path, Options{RetryFor: 10 * time.Second})
	require.NoError(t, err)
	require.NoError(t, c.Ping(testContext(t)))
	require.NoError(t, c.Close())
	assert.EqualValues(t, 4, tries.Load())
}

func TestOldGuest(t *testing.T) {
	c := connectGen(t, Options{}, 5, pong)
	assert.EqualValues(t, 5, c.Generation())
	err := c.Ping(testContext(t))
	require.ErrorIs(t, err, ErrTooOld)
	assert.EqualError(t, err, "the sandbox runtime is too old for 'core.ping' (needs protocol generation 6, the sandbox speaks 5); restart the sandbox to update its runtime")
	var gen *GenerationError
	require.ErrorAs(t, err, &gen)
	assert.Equal(t, GenerationError{proto.TypePing, 6, 5}, *gen)

	newer := connectGen(t, Options{}, 200, pong)
	assert.EqualValues(t, 7, newer.Generation())
	require.NoError(t, newer.Ping(testContext(t)))
}

func TestDisconnectFailsEverything(t *testing.T) {
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		switch m.Type {
		case proto.TypeExecRequest:
			g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{PID: 7})
			g.data(m.ID, proto.TypeExecStdout, "last words")
		case proto.TypePing:
			_ = g.conn.Close()
		}
	})
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "x"})
	require.NoError(t, err)
	assert.ErrorIs(t, c.Ping(ctx), ErrDisconnected)
	<-c.Done()
	assert.ErrorIs(t, c.Err(), ErrDisconnected)

	ev, err := e.Recv(ctx)
	require.NoError(t, err)
	assert.Equal(t, "last words", string(ev.Data))
	_, err = e.Recv(ctx)
	assert.ErrorIs(t, err, ErrDisconnected)
	_, err = e.Write([]byte("x"))
	assert.ErrorIs(t, err, ErrDisconnected)
	assert.ErrorIs(t, c.Ping(ctx), ErrDisconnected)
	assert.ErrorIs(t, c.Shutdown(ctx), ErrDisconnected)
}

func TestCloseEndsWaitingCalls(t *testing.T) {
	asked := make(chan struct{})
	c := connect(t, Options{}, func(*guest, proto.Message) { close(asked) })
	result := make(chan error, 1)
	go func() { result <- c.Ping(context.Background()) }()
	<-asked
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	assert.ErrorIs(t, <-result, ErrClosed)
	assert.ErrorIs(t, c.Ping(testContext(t)), ErrClosed)
}

func TestShutdownUsesIDZero(t *testing.T) {
	got := make(chan proto.Message, 1)
	c := connect(t, Options{}, func(_ *guest, m proto.Message) { got <- m })
	require.NoError(t, c.Shutdown(testContext(t)))
	m := <-got
	assert.Zero(t, m.ID)
	assert.Equal(t, proto.TypeShutdown, m.Type)
	assert.Equal(t, []byte{0xf6}, m.Payload)
}

func TestIDsWrapAndSkipPending(t *testing.T) {
	c := connect(t, Options{}, pong)
	ctx := testContext(t)
	held, err := c.register(proto.TypePing, false)
	require.NoError(t, err)
	assert.Equal(t, proto.SlotRange(3).Start, held.id)
	c.mu.Lock()
	c.nextID = c.shake.IDs.End - 1
	c.mu.Unlock()
	require.NoError(t, c.Ping(ctx)) // uses the last id
	require.NoError(t, c.Ping(ctx)) // wraps, and must not take the held one
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Equal(t, held.id+2, c.nextID)
}

func TestRaw(t *testing.T) {
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		if m.Type == proto.TypePing {
			pong(g, m)
			return
		}
		g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{PID: 1})
		g.send(m.ID, proto.TypeExecExited, proto.ExecExited{Code: 3})
	})
	ctx := testContext(t)
	body := proto.AppendEnvelope(nil, proto.Envelope{Generation: 7, Type: proto.TypePing, Payload: []byte{0xa0}})
	f, err := c.RequestRaw(ctx, 0, body)
	require.NoError(t, err)
	m, err := proto.ParseMessage(f)
	require.NoError(t, err)
	assert.Equal(t, proto.TypePong, m.Type)
	assert.Equal(t, proto.FlagTerminal, f.Flags)

	payload, err := proto.AppendPayload(nil, proto.ExecRequest{Cmd: "x"})
	require.NoError(t, err)
	body = proto.AppendEnvelope(nil, proto.Envelope{Generation: 7, Type: proto.TypeExecRequest, Payload: payload})
	s, err := c.OpenRaw(ctx, proto.FlagSessionStart, body)
	require.NoError(t, err)
	for range 2 {
		f, err = s.Next(ctx)
		require.NoError(t, err)
		assert.Equal(t, s.ID(), f.ID)
	}
	_, err = s.Next(ctx)
	assert.Equal(t, io.EOF, err)
	f.Body = proto.AppendEnvelope(nil, proto.Envelope{Generation: 7, Type: proto.TypePing, Payload: []byte{0xa0}})
	s.Close()
	s.Close()
	assert.Error(t, c.SendRaw(ctx, proto.Frame{ID: 1}))
	assert.Error(t, c.SendRaw(ctx, proto.Frame{ID: 0}))
	assert.NoError(t, c.SendRaw(ctx, proto.Frame{ID: c.IDs().Start, Body: f.Body}))
}

// TestInterruptedWriteKeepsFraming cancels a write in mid-frame and checks that the peer
// still sees whole frames afterwards.
func TestInterruptedWriteKeepsFraming(t *testing.T) {
	near, far := net.Pipe()
	g := &guest{t: t, conn: far, w: proto.NewWriter(far)}
	shaken := make(chan error, 1)
	go func() { shaken <- g.handshake(proto.Generation) }()
	c, err := New(testContext(t), near, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	require.NoError(t, <-shaken)

	ctx, cancel := context.WithCancel(testContext(t))
	result := make(chan error, 1)
	go func() { result <- c.Ping(ctx) }()
	var head [6]byte
	_, err = io.ReadFull(far, head[:])
	require.NoError(t, err)
	cancel()
	err = <-result
	require.ErrorIs(t, err, context.Canceled)

	seen := make(chan error, 1)
	go func() {
		r := proto.NewReader(io.MultiReader(bytes.NewReader(head[:]), far))
		for range 2 {
			f, err := r.ReadFrame()
			if err != nil {
				seen <- err
				return
			}
			m, err := proto.ParseMessage(f)
			if err != nil || m.Type != proto.TypePing {
				seen <- errors.Join(err, errors.New("not a ping"))
				return
			}
			g.send(m.ID, proto.TypePong, proto.Empty{})
		}
		seen <- nil
	}()
	require.NoError(t, c.Ping(testContext(t)))
	require.NoError(t, <-seen)
}
