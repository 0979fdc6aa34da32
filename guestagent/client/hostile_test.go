package client

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// TestStrangeReplies sends what no session asked for before and around the answer of a
// ping (P5, P6, P8, P10): the ping must succeed all the same.
func TestStrangeReplies(t *testing.T) {
	other := proto.SlotRange(9).Start
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		g.send(other, proto.TypePong, proto.Empty{})                          // another client's id
		g.send(m.ID+1000, proto.TypeExecExited, proto.ExecExited{})           // an id never sent
		g.send(0, proto.TypeError, proto.CoreError{Kind: "x", Message: "y"})  // nobody's
		g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{PID: 1})        // does not fit
		g.send(m.ID, "core.future.thing", proto.Empty{})                      // not known
		g.send(m.ID, proto.TypePong, map[string]any{"extra": []int{1, 2, 3}}) // unknown field
		g.send(m.ID, proto.TypePong, proto.Empty{})                           // twice
		g.send(m.ID, proto.TypePong, proto.Empty{})
	})
	for range 3 {
		require.NoError(t, c.Ping(testContext(t)))
	}
	assert.NoError(t, c.Err())
}

// TestBreaches checks replies that end their session with an error but spare the others.
func TestBreaches(t *testing.T) {
	message := func(m proto.Message) []byte {
		b, err := m.Append(nil)
		require.NoError(t, err)
		return b
	}
	deep := []byte(strings.Repeat("\x81", 100) + "\x00")
	for name, reply := range map[string]func(id uint32) []byte{
		"terminal of another kind": func(id uint32) []byte {
			return message(proto.Message{ID: id, Flags: 1, Generation: 7, Type: proto.TypeTCPClosed, Payload: []byte{0xa0}})
		},
		"unknown terminal": func(id uint32) []byte {
			return message(proto.Message{ID: id, Flags: 1, Generation: 7, Type: "core.future", Payload: []byte{0xa0}})
		},
		"wrong flags": func(id uint32) []byte {
			return message(proto.Message{ID: id, Generation: 7, Type: proto.TypePong, Payload: []byte{0xa0}})
		},
		"no envelope": func(id uint32) []byte {
			b, err := proto.AppendFrame(nil, proto.Frame{ID: id, Flags: 1})
			require.NoError(t, err)
			return b
		},
		"deep payload": func(id uint32) []byte {
			return message(proto.Message{ID: id, Flags: 1, Generation: 7, Type: proto.TypePong, Payload: deep})
		},
		"null payload": func(id uint32) []byte {
			return message(proto.Message{ID: id, Flags: 1, Generation: 7, Type: proto.TypePong, Payload: []byte{0xf6}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var pings atomic.Int32
			c := connect(t, Options{}, func(g *guest, m proto.Message) {
				if pings.Add(1) == 1 {
					_ = g.raw(reply(m.ID))
					return
				}
				pong(g, m)
			})
			assert.ErrorIs(t, c.Ping(testContext(t)), ErrProtocol)
			assert.NoError(t, c.Ping(testContext(t)))
		})
	}
}

func TestRemoteError(t *testing.T) {
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		g.send(m.ID, proto.TypeError, proto.CoreError{Kind: proto.KindInvalidPayload, Message: "bad", OffendingType: &m.Type})
	})
	ctx := testContext(t)
	want := &RemoteError{Kind: proto.KindInvalidPayload, Message: "bad", OffendingType: proto.TypePing}
	assert.Equal(t, want, c.Ping(ctx))
	_, err := c.Exec(ctx, Command{Name: "x"})
	assert.ErrorAs(t, err, new(*RemoteError))
	_, err = c.Stat(ctx, "/")
	assert.ErrorAs(t, err, new(*RemoteError))
	_, err = c.DialTCP(ctx, "h", 1)
	assert.ErrorAs(t, err, new(*RemoteError))
}

// TestBadLengths checks that a bad length field ends the connection before memory is
// taken for it (P1).
func TestBadLengths(t *testing.T) {
	for name, head := range map[string]string{
		"zero": "\x00\x00\x00\x00", "three": "\x00\x00\x00\x03", "four": "\x00\x00\x00\x04",
		"max+1": "\x00\x40\x00\x01", "all ones": "\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, Options{}, func(g *guest, _ proto.Message) { _ = g.raw([]byte(head)) })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := c.Ping(testContext(t))
			runtime.ReadMemStats(&after)
			assert.ErrorIs(t, err, ErrDisconnected)
			assert.ErrorIs(t, err, proto.ErrFrame)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
		})
	}
}

// TestStreamEndsInsideFrame is P3.
func TestStreamEndsInsideFrame(t *testing.T) {
	c := connect(t, Options{}, func(g *guest, _ proto.Message) {
		_ = g.raw([]byte{0, 0, 0, 50, 1, 2, 3})
		_ = g.conn.Close()
	})
	err := c.Ping(testContext(t))
	assert.ErrorIs(t, err, ErrDisconnected)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// TestDribbledFrame is P2: a frame must arrive in time once it has begun, however long
// the connection was idle before.
func TestDribbledFrame(t *testing.T) {
	c := connect(t, Options{FrameTimeout: 50 * time.Millisecond}, func(g *guest, m proto.Message) {
		if m.Type == proto.TypeTouch {
			pong(g, m)
			return
		}
		for range 100 {
			if g.raw([]byte{0}) != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	ctx := testContext(t)
	_, err := c.Touch(ctx)
	require.NoError(t, err)
	<-time.After(100 * time.Millisecond) // idle for longer than a frame may take
	_, err = c.Touch(ctx)
	require.NoError(t, err)
	// The dribbled bytes are zero: a bad length or the deadline, whichever is first.
	assert.ErrorIs(t, c.Ping(ctx), ErrDisconnected)
}

// TestDribbledBody is P2 with a length that is right.
func TestDribbledBody(t *testing.T) {
	c := connect(t, Options{FrameTimeout: 50 * time.Millisecond}, func(g *guest, _ proto.Message) {
		_ = g.raw([]byte{0, 0, 1, 0})
	})
	assert.ErrorIs(t, c.Ping(testContext(t)), os.ErrDeadlineExceeded)
}

// TestExitCodes is P8: odd codes, and frames after the terminal one.
func TestExitCodes(t *testing.T) {
	var code atomic.Int32
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		if m.Type != proto.TypeExecRequest {
			return
		}
		g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{})
		g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{})
		g.send(m.ID, proto.TypeExecExited, proto.ExecExited{Code: code.Load()})
		g.data(m.ID, proto.TypeExecStdout, "from the grave")
		g.send(m.ID, proto.TypeExecExited, proto.ExecExited{Code: 99})
	})
	ctx := testContext(t)
	for _, want := range []int32{0, 1, 255, -1} {
		code.Store(want)
		out, err := c.ExecCollect(ctx, Command{Name: "x"}, nil)
		require.NoError(t, err)
		assert.Equal(t, &Output{Code: int(want)}, out)
	}
	for _, odd := range []int32{-2, 256, -1 << 31, 1<<31 - 1} {
		code.Store(odd)
		_, err := c.ExecCollect(ctx, Command{Name: "x"}, nil)
		assert.ErrorIs(t, err, ErrProtocol)
	}
}

// flood answers an exec with endless output; written counts what got out.
func flood(written *atomic.Int64) script {
	return func(g *guest, m proto.Message) {
		switch m.Type {
		case proto.TypeExecRequest:
			g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{})
			go func() {
				frame, err := proto.AppendDataMessage(nil, m.ID, proto.TypeExecStdout, make([]byte, 32<<10))
				if err != nil {
					g.t.Error(err)
				}
				for g.raw(frame) == nil {
					written.Add(32 << 10)
				}
			}()
		case proto.TypePing:
			go pong(g, m)
		}
	}
}

// TestFloodWithSlowConsumer is P7: the guest is held back, memory stays flat, nothing is
// lost, and a session alone on its connection is not ended for slowness.
func TestFloodWithSlowConsumer(t *testing.T) {
	var written atomic.Int64
	c := connect(t, Options{StallLimit: 10 * time.Millisecond}, flood(&written))
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "yes"})
	require.NoError(t, err)
	settle := func() int64 {
		for {
			before := written.Load()
			<-time.After(60 * time.Millisecond)
			if written.Load() == before {
				return before
			}
		}
	}
	const slack = 3 << 20 // session buffer, socket buffers, one frame
	assert.Less(t, settle(), int64(slack))
	assert.LessOrEqual(t, c.buffered.Load(), int64(1<<20))
	var read int64
	for read < 64<<20 {
		ev, err := e.Recv(ctx)
		require.NoError(t, err)
		read += int64(len(ev.Data))
	}
	assert.Less(t, settle(), read+slack)
	e.Close()
	assert.Zero(t, c.buffered.Load())
}

// TestReadJustInTime: a session that was read at the moment when the patience ended is to
// blame for nothing.
func TestReadJustInTime(t *testing.T) {
	t.Parallel()
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		if m.Type == proto.TypeExecRequest {
			g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{})
		}
	})
	e, err := c.Exec(testContext(t), Command{Name: "yes"})
	require.NoError(t, err)
	other, err := c.Exec(testContext(t), Command{Name: "cat"})
	require.NoError(t, err)
	_, blame := c.stalled(e.s)
	assert.False(t, blame)
	other.s.offer(event{typ: proto.TypeExecStdout, body: []byte("unread")}, false)
	victim, blame := c.stalled(e.s)
	assert.True(t, blame)
	assert.Same(t, other.s, victim)
}

// TestStalledSessionIsEnded checks that an unread session holds up others only for the
// stall limit, and that it learns why it ended.
func TestStalledSessionIsEnded(t *testing.T) {
	var written atomic.Int64
	c := connect(t, Options{StallLimit: 50 * time.Millisecond}, flood(&written))
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "yes"})
	require.NoError(t, err)
	for c.buffered.Load() < 900<<10 {
		<-time.After(time.Millisecond)
	}
	require.NoError(t, c.Ping(ctx))
	_, err = e.Recv(ctx)
	assert.ErrorIs(t, err, ErrStalled)
	assert.Zero(t, c.buffered.Load())
}

// TestTotalBuffer opens many commands that nobody reads (P9): memory is bounded by the
// total, and sessions that do get read still work.
func TestTotalBuffer(t *testing.T) {
	c := connect(t, Options{TotalBuffer: 256 << 10, StallLimit: 20 * time.Millisecond}, func(g *guest, m proto.Message) {
		switch m.Type {
		case proto.TypeExecRequest:
			g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{})
			g.data(m.ID, proto.TypeExecStdout, strings.Repeat("x", 100<<10))
			g.send(m.ID, proto.TypeExecExited, proto.ExecExited{})
		case proto.TypePing:
			pong(g, m)
		}
	})
	ctx := testContext(t)
	var all []*Exec
	for range 20 {
		e, err := c.Exec(ctx, Command{Name: "x"})
		require.NoError(t, err)
		all = append(all, e)
		assert.LessOrEqual(t, c.buffered.Load(), int64(257<<10))
	}
	require.NoError(t, c.Ping(ctx))
	stalled := 0
	for _, e := range all {
		if _, err := e.Wait(ctx); err != nil {
			assert.ErrorIs(t, err, ErrStalled)
			stalled++
		}
	}
	assert.GreaterOrEqual(t, stalled, 17)
	assert.Less(t, stalled, 20)
	assert.Zero(t, c.buffered.Load())
}

// TestAbandonedSessionIsDrained checks that giving a session up never blocks others.
func TestAbandonedSessionIsDrained(t *testing.T) {
	var written atomic.Int64
	c := connect(t, Options{}, flood(&written))
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "yes"})
	require.NoError(t, err)
	e.Close()
	require.NoError(t, c.Ping(ctx))
	for written.Load() < 32<<20 {
		<-time.After(time.Millisecond)
	}
	assert.Zero(t, c.buffered.Load())
}

// TestCloseWhileFull checks that Close ends a read loop that waits for room.
func TestCloseWhileFull(t *testing.T) {
	var written atomic.Int64
	c := connect(t, Options{}, flood(&written))
	e, err := c.Exec(testContext(t), Command{Name: "yes"})
	require.NoError(t, err)
	for c.buffered.Load() < 900<<10 {
		<-time.After(time.Millisecond)
	}
	require.NoError(t, c.Close())
	for {
		if _, err = e.Recv(testContext(t)); err != nil {
			break
		}
	}
	assert.ErrorIs(t, err, ErrClosed)
}

// TestWriteToStuckGuest checks that a guest that takes nothing cannot hold callers.
func TestWriteToStuckGuest(t *testing.T) {
	release := make(chan struct{})
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		if m.Type == proto.TypeExecRequest {
			g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{})
			<-release // reads no more
		}
	})
	e, err := c.Exec(testContext(t), Command{Name: "cat"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	_, err = e.WriteContext(ctx, make([]byte, 64<<20))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	err = c.Ping(ctx)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	close(release)
	e.Close()
}

// TestPeerWithoutAddress uses a net.Pipe, whose writes need a reader.
func TestPeerWithoutAddress(t *testing.T) {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&guest{t: t, conn: far, w: proto.NewWriter(far)}).serve(proto.Generation, pong)
	}()
	c, err := New(testContext(t), near, Options{})
	require.NoError(t, err)
	require.NoError(t, c.Ping(testContext(t)))
	require.NoError(t, c.Close())
	<-done
}
