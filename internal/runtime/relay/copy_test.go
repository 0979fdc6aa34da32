package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
)

// rejoin lets guest play a copy of a guest, and returns what comes of it.
func rejoin(t *testing.T, cfg Config, guest func(in *proto.Reader, out *proto.Writer, conn net.Conn)) (*Relay, proto.Ready, error) {
	t.Helper()
	host, theirs := net.Pipe()
	cfg.Guest, cfg.Log = host, &logged{}
	r := New(cfg)
	over := make(chan struct{})
	go func() {
		defer close(over)
		guest(proto.NewReader(theirs), proto.NewWriter(theirs), theirs)
	}()
	ready, err := r.Rejoin(t.Context(), &proto.Renew{Hostname: "copy", HostAlias: "host", Network: &proto.Network{Interface: "eth0", MTU: 1400}})
	if err != nil {
		require.NoError(t, r.Close())
	}
	_ = theirs.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() {
		_ = r.Close()
		_ = theirs.Close()
		<-over
	})
	return r, ready, err
}

func TestRejoin(t *testing.T) {
	before := time.Now()
	var first [2]proto.Renew
	for i := range first {
		r, ready, err := rejoin(t, Config{}, func(in *proto.Reader, out *proto.Writer, _ net.Conn) {
			f, err := in.ReadFrame()
			assert.NoError(t, err)
			m, err := proto.ParseMessage(f)
			assert.NoError(t, err)
			assert.Equal(t, proto.TypeRenew, m.Type)
			assert.Zero(t, m.ID)
			assert.NoError(t, m.Decode(&first[i]))
			ready := guesttest.Ready
			ready.Flow, ready.Input = true, 77
			assert.NoError(t, out.WriteMessage(0, proto.TypeReady, ready))
		})
		require.NoError(t, err)
		assert.Equal(t, "test", ready.AgentVersion)
		assert.NotNil(t, r.flow)
		assert.EqualValues(t, 77, r.input)
		assert.NotEmpty(t, r.ready)
		n := first[i]
		require.NoError(t, n.Validate())
		assert.Equal(t, "copy", n.Hostname)
		assert.Equal(t, "host", n.HostAlias)
		assert.EqualValues(t, 1400, n.Network.MTU)
		assert.WithinRange(t, time.Unix(0, int64(n.UnixTimeNanos)), before, time.Now())
	}
	assert.NotEqual(t, first[0].Entropy, first[1].Entropy)
}

// What a hostile copy can do is fail its own start, with an error that says why.
func TestRejoinHostile(t *testing.T) {
	t.Parallel()
	send := func(typ proto.Type, payload any) func(*proto.Reader, *proto.Writer, net.Conn) {
		return func(in *proto.Reader, out *proto.Writer, _ net.Conn) {
			_, _ = in.ReadFrame()
			_ = out.WriteMessage(0, typ, payload)
		}
	}
	write := func(b []byte) func(*proto.Reader, *proto.Writer, net.Conn) {
		return func(in *proto.Reader, _ *proto.Writer, conn net.Conn) {
			_, _ = in.ReadFrame()
			_, _ = conn.Write(b)
		}
	}
	resolved := func(proto.DefaultUser) { t.Error("the user of a copy is known") }
	for name, c := range map[string]struct {
		guest func(*proto.Reader, *proto.Writer, net.Conn)
		want  error
	}{
		"it boots":        {send(proto.TypeInitResolved, proto.InitResolved{}), ErrProtocol},
		"a huge frame":    {write(binary.BigEndian.AppendUint32(nil, proto.MaxFrame+1)), ErrProtocol},
		"a tiny frame":    {write([]byte{0, 0, 0, 1, 0}), ErrProtocol},
		"no envelope":     {write([]byte{0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff}), ErrProtocol},
		"ready is broken": {send(proto.TypeReady, "yes"), ErrProtocol},
		"it hangs up": {func(in *proto.Reader, _ *proto.Writer, conn net.Conn) {
			_, _ = in.ReadFrame()
			_ = conn.Close()
		}, io.EOF},
		"it never ends": {func(in *proto.Reader, out *proto.Writer, _ net.Conn) {
			_, _ = in.ReadFrame()
			for out.WriteData(3, proto.TypeExecStdout, []byte("x")) == nil {
			}
		}, ErrProtocol},
	} {
		_, _, err := rejoin(t, Config{OnResolved: resolved}, c.guest)
		assert.ErrorIs(t, err, c.want, name)
	}
	_, _, err := rejoin(t, Config{}, send(proto.TypeError, proto.CoreError{Kind: "network", Message: "no eth0"}))
	var guest *GuestError
	require.ErrorAs(t, err, &guest)
	assert.Equal(t, &GuestError{Kind: "network", Message: "no eth0"}, guest)
}

// A guest that takes or says nothing is given up when the caller does.
func TestRejoinSilent(t *testing.T) {
	for name, reads := range map[string]bool{"does not read": false, "does not answer": true} {
		synctest.Test(t, func(t *testing.T) {
			host, guest := net.Pipe()
			r := New(Config{Guest: host, Log: &logged{}})
			if reads {
				go func() { _, _ = io.Copy(io.Discard, guest) }()
			}
			boom := errors.New("enough")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, boom)
			defer cancel()
			_, err := r.Rejoin(ctx, &proto.Renew{})
			require.ErrorIs(t, err, boom, name)
			require.NoError(t, r.Close())
			_ = guest.Close()
		})
	}
}
