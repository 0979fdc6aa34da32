package client

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// limited connects to a guest that takes limit bytes of input ahead and runs commands that
// take nothing until the test says so. taken counts what arrived.
func limited(t *testing.T, limit uint64) (c *Client, guests <-chan *guest, taken *atomic.Int64) {
	t.Helper()
	taken = &atomic.Int64{}
	ready := make(chan *guest, 1)
	path := listen(t, func(conn net.Conn) {
		g := &guest{t: t, conn: conn, w: proto.NewWriter(conn), ready: proto.Ready{Flow: true, Input: limit}}
		ready <- g
		g.serve(proto.Generation, func(g *guest, m proto.Message) {
			switch m.Type {
			case proto.TypeFlow:
				p := decode[proto.Flow](g, m)
				assert.Equal(t, p.Open && limit > 0, p.Input, "it is asked for where there is such a thing")
			case proto.TypeExecRequest:
				g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{PID: 1})
			case proto.TypeExecStdin:
				taken.Add(int64(len(decode[proto.Data](g, m).Data)))
			case proto.TypePing:
				g.send(m.ID, proto.TypePong, proto.Empty{})
			}
		})
	})
	c, err := Dial(testContext(t), path, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c, ready, taken
}

func TestInputIsLimited(t *testing.T) {
	t.Parallel()
	c, guests, taken := limited(t, 100<<10)
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "cat"})
	require.NoError(t, err)
	g := <-guests
	written := make(chan error, 3)
	write := func() {
		_, err := e.WriteContext(ctx, make([]byte, 1<<20))
		written <- err
	}
	for range cap(written) {
		go write()
	}
	settled := func(want int64) {
		t.Helper()
		require.Eventually(t, func() bool { return taken.Load() >= want }, testPatience, testTick)
		require.NoError(t, c.Ping(ctx)) // which would come behind what was sent
		require.Equal(t, want, taken.Load())
	}
	settled(128 << 10) // the limit may be exceeded by one message
	g.send(e.ID(), proto.TypeFlow, proto.Flow{Limit: 200 << 10})
	settled(256 << 10)
	g.send(e.ID(), proto.TypeFlow, proto.Flow{Limit: 100 << 10}) // lower is nothing new
	settled(256 << 10)
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = e.WriteContext(over, make([]byte, 10))
	require.ErrorIs(t, err, context.Canceled)
	g.send(e.ID(), proto.TypeFlow, proto.Flow{Limit: 1 << 40})
	for range cap(written) {
		require.NoError(t, <-written)
	}
	settled(3 << 20)
}

// TestInputOfOldGuest is not limited.
func TestInputOfOldGuest(t *testing.T) {
	t.Parallel()
	c, _, taken := limited(t, 0)
	e, err := c.Exec(testContext(t), Command{Name: "cat"})
	require.NoError(t, err)
	_, err = e.Write(make([]byte, 4<<20))
	require.NoError(t, err)
	require.NoError(t, c.Ping(testContext(t)))
	assert.EqualValues(t, 4<<20, taken.Load())
}

// TestInputEnds wakes all writers that wait, whatever ends their input.
func TestInputEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(c *Client, g *guest, e *Exec)
		want error
	}{
		"stdin is closed": {func(_ *Client, g *guest, e *Exec) {
			g.send(e.ID(), proto.TypeExecStdinError, proto.ExecStdinError{Message: "Broken pipe"})
		}, &StdinError{Message: "Broken pipe"}},
		"exit":        {func(_ *Client, g *guest, e *Exec) { g.send(e.ID(), proto.TypeExecExited, proto.ExecExited{}) }, io.ErrClosedPipe},
		"given up":    {func(_ *Client, _ *guest, e *Exec) { e.Close() }, ErrClosed},
		"closed":      {func(c *Client, _ *guest, _ *Exec) { _ = c.Close() }, ErrClosed},
		"connection":  {func(_ *Client, g *guest, _ *Exec) { _ = g.conn.Close() }, ErrDisconnected},
		"broken flow": {func(_ *Client, g *guest, e *Exec) { g.send(e.ID(), proto.TypeFlow, "much") }, ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, guests, taken := limited(t, 1)
			e, err := client.Exec(testContext(t), Command{Name: "cat"})
			require.NoError(t, err)
			written := make(chan error, 3)
			for range cap(written) {
				go func() {
					_, err := e.Write(make([]byte, 1<<20))
					written <- err
				}()
			}
			require.Eventually(t, func() bool { return taken.Load() > 0 }, testPatience, testTick)
			c.end(client, <-guests, e)
			for range cap(written) {
				err := <-written
				if want, ok := c.want.(*StdinError); ok {
					var got *StdinError
					require.ErrorAs(t, err, &got)
					assert.Equal(t, want.Message, got.Message)
				} else {
					require.ErrorIs(t, err, c.want)
				}
			}
		})
	}
}
