package relay

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// trimming runs f with a relay whose guest answers each request as answer does. Time is
// that of a bubble.
func trimming(t *testing.T, answer func(m proto.Message, out *proto.Writer, conn net.Conn), f func(t *testing.T, r *Relay)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		host, guest := net.Pipe()
		r := New(Config{Guest: host, Log: &logged{}})
		ran := make(chan error, 1)
		go func() { ran <- r.Run() }()
		over := make(chan struct{})
		go func() {
			defer close(over)
			in, out := proto.NewReader(guest), proto.NewWriter(guest)
			for answer != nil {
				frame, err := in.ReadFrame()
				if err != nil {
					return
				}
				frame.Body = bytes.Clone(frame.Body)
				m, err := proto.ParseMessage(frame)
				assert.NoError(t, err)
				answer(m, out, guest)
			}
		}()
		f(t, r)
		require.NoError(t, r.Close())
		_ = guest.Close()
		<-ran
		<-over
	})
}

func TestTrim(t *testing.T) {
	asked := 0
	trimming(t, func(m proto.Message, out *proto.Writer, _ net.Conn) {
		asked++
		assert.Equal(t, proto.TypeTrim, m.Type)
		assert.Zero(t, m.ID)
		assert.NoError(t, out.WriteMessage(0, proto.TypeTrimmed, proto.Empty{}))
	}, func(t *testing.T, r *Relay) {
		for range 3 {
			require.NoError(t, r.Trim(t.Context()))
		}
	})
	assert.Equal(t, 3, asked)
}

// An agent that does not know how to trim, as those of 0.6.18, is no error.
func TestTrimOfAnOldAgent(t *testing.T) {
	trimming(t, func(m proto.Message, out *proto.Writer, _ net.Conn) {
		assert.NoError(t, out.WriteMessage(m.ID, proto.TypeError, proto.CoreError{
			Kind: proto.KindUnsupportedType, Message: "unsupported message type", OffendingType: &m.Type,
		}))
	}, func(t *testing.T, r *Relay) { require.NoError(t, r.Trim(t.Context())) })
}

func TestTrimHostile(t *testing.T) {
	// It takes nothing.
	trimming(t, nil, func(t *testing.T, r *Relay) { require.ErrorIs(t, r.Trim(t.Context()), errTrim) })
	// It says other things, whatever they are.
	other := proto.TypePing
	trimming(t, func(_ proto.Message, out *proto.Writer, conn net.Conn) {
		_ = out.WriteMessage(0, proto.TypeError, proto.CoreError{Kind: "x", OffendingType: &other})
		_ = out.WriteMessage(0, proto.TypeError, "nonsense")
		_ = out.WriteMessage(7, proto.TypeTrimmed, proto.Empty{})
		_ = out.WriteFrame(proto.Frame{Body: []byte{0xff}})
	}, func(t *testing.T, r *Relay) {
		require.ErrorIs(t, r.Trim(t.Context()), errTrim)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, r.Trim(ctx), context.Canceled)
	})
	// It goes.
	trimming(t, func(_ proto.Message, _ *proto.Writer, conn net.Conn) { _ = conn.Close() }, func(t *testing.T, r *Relay) {
		require.ErrorIs(t, r.Trim(t.Context()), io.ErrClosedPipe)
		require.Error(t, r.Trim(t.Context()), "and stays away")
	})
}
