//go:build linux

package serve

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

func TestPingAndTouch(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	c := g.connect(t, 0, client.Options{})
	ctx := testContext(t)
	require.NoError(t, c.Ping(ctx))
	assert.Zero(t, g.activity.seq.Load(), "a ping is no activity")
	for want := uint64(1); want < 4; want++ {
		got, err := c.Touch(ctx)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	assert.EqualValues(t, 3, g.activity.fromHost.Load())
	assert.Zero(t, g.activity.fromGuest.Load(), "answers to it are none either")
}

func TestReady(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	want := proto.Ready{BootTimeNs: 1, InitTimeNs: 2, ReadyTimeNs: 3, AgentVersion: "v"}
	require.NoError(t, g.Ready(want))
	var got proto.Ready
	g.raw(t).next(0, proto.TypeReady, &got)
	want.Flow, want.Input = true, inputWindow
	assert.Equal(t, want, got)
	assert.Zero(t, g.activity.seq.Load())
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	c := g.connect(t, 0, client.Options{})
	e, err := c.Exec(testContext(t), client.Command{Name: "sleep", Args: []string{"60"}})
	require.NoError(t, err)
	require.NoError(t, c.Shutdown(testContext(t)))
	<-g.done
	require.ErrorIs(t, g.err, ErrShutdown)
	g.Terminate()
	code, err := e.Wait(testContext(t))
	require.NoError(t, err)
	assert.Equal(t, -1, code)
}

func TestHostGoes(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	require.NoError(t, g.host.Close())
	<-g.done
	require.ErrorIs(t, g.err, io.EOF)
}

func TestStreamOutOfStep(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{"too short": {0, 0, 0, 4}, "too long": {0xff, 0, 0, 0}, "cut": {0, 0, 0, 9, 1}} {
		g := boot(t, Config{})
		_, err := g.host.Write(b)
		require.NoError(t, err)
		require.NoError(t, g.host.(*net.UnixConn).CloseWrite())
		<-g.done
		assert.True(t, errors.Is(g.err, proto.ErrFrame) || errors.Is(g.err, io.ErrUnexpectedEOF), "%s: %v", name, g.err)
	}
}

// What cannot be processed is answered, and the stream goes on.
func TestRefusals(t *testing.T) {
	t.Parallel()
	r := boot(t, Config{}).raw(t)
	message := func(id uint32, generation uint8, typ proto.Type, flags proto.Flags, payload string) {
		t.Helper()
		b, err := proto.Message{ID: id, Flags: flags, Generation: generation, Type: typ, Payload: []byte(payload)}.Append(nil)
		require.NoError(t, err)
		f, _, err := proto.ParseFrame(b)
		require.NoError(t, err)
		require.NoError(t, r.w.WriteFrame(f))
	}
	refused := func(id uint32, kind proto.ErrorKind, typ proto.Type, text string) {
		t.Helper()
		var p proto.CoreError
		r.next(id, proto.TypeError, &p)
		assert.Equal(t, kind, p.Kind)
		assert.Contains(t, p.Message, text)
		if typ != "" {
			require.NotNil(t, p.OffendingType)
			assert.Equal(t, typ, *p.OffendingType)
		} else {
			assert.Nil(t, p.OffendingType)
		}
	}
	require.NoError(t, r.w.WriteFrame(proto.Frame{ID: 1, Body: []byte("nonsense")}))
	refused(1, proto.KindMalformedMessage, "", "malformed message envelope")
	message(2, 7, "core.future", 0, "\xa0")
	refused(2, proto.KindUnsupportedType, "core.future", `unsupported message type "core.future"`)
	message(3, 7, proto.TypeExecRequest, 0, "\xa0")
	refused(3, proto.KindInvalidFlags, proto.TypeExecRequest, "invalid flags for core.exec.request: got 0, expected 2")
	message(4, 7, proto.TypeExecRequest, proto.FlagSessionStart, "\xa0")
	refused(4, proto.KindInvalidPayload, proto.TypeExecRequest, "decode payload for core.exec.request: ")
	for _, typ := range []proto.Type{
		proto.TypePing, proto.TypeTouch, proto.TypeClockSync, proto.TypeClientDisconnected, proto.TypeExecStdin, proto.TypeExecResize,
		proto.TypeExecSignal, proto.TypeFSRequest, proto.TypeFSData, proto.TypeTCPConnect, proto.TypeTCPData, proto.TypeTCPEOF, proto.TypeTCPClose,
	} {
		message(5, 7, typ, typ.Flags(), "\xf6")
		refused(5, proto.KindInvalidPayload, typ, "decode payload for "+string(typ))
	}
	// Peers before generation 5 know no core.error: dropped.
	message(6, 4, proto.TypeExecRequest, 0, "\xa0")
	message(6, 4, proto.TypeExecRequest, proto.FlagSessionStart, "\xa0")
	message(6, 4, "core.future", 0, "\xa0")
	// Known, but not for the guest: ignored.
	message(7, 7, proto.TypeExecStdout, 0, "\xa0")
	message(7, 7, proto.TypeReady, 0, "\xa0")
	message(7, 7, proto.TypeInitAck, 0, "\xa0")
	r.send(8, proto.TypePing, proto.Empty{})
	r.next(8, proto.TypePong, nil)
}

func TestClockSync(t *testing.T) {
	t.Parallel()
	set := make(chan time.Time, 10)
	g := boot(t, Config{SetClock: func(at time.Time) error { set <- at; return errors.New("not in tests") }})
	r := g.raw(t)
	sync := func(at uint64) {
		r.send(0, proto.TypeClockSync, proto.ClockSync{UnixTimeNanos: at})
		r.send(1, proto.TypePing, proto.Empty{})
		r.next(1, proto.TypePong, nil)
	}
	sync(uint64(time.Now().UnixNano()))
	sync(math.MaxUint64)
	assert.Empty(t, set, "near enough, or no time at all")
	for _, at := range []time.Time{time.Unix(1e9, 5), time.Now().Add(time.Second)} {
		sync(uint64(at.UnixNano()))
		require.Len(t, set, 1)
		assert.True(t, at.Equal(<-set))
	}
	assert.Zero(t, g.activity.seq.Load())
}

// beatLine is a heartbeat as the host reads it.
type beatLine struct {
	Seq         uint64    `json:"heartbeat_seq"`
	ActivitySeq uint64    `json:"activity_seq"`
	Timestamp   time.Time `json:"timestamp"`
	LastActive  time.Time `json:"last_activity"`
	ExecCount   uint32    `json:"active_exec_sessions"`
	FSCount     uint32    `json:"active_fs_streams"`
	TCPCount    uint32    `json:"active_tcp_streams"`
	Counters    struct {
		HostMessages  uint64 `json:"host_messages"`
		GuestMessages uint64 `json:"guest_messages"`
		Exec          uint64 `json:"exec_output_bytes"`
		FS            uint64 `json:"fs_bytes"`
		TCP           uint64 `json:"tcp_bytes"`
	} `json:"activity_counters"`
}

func TestHeartbeatText(t *testing.T) {
	var a activity
	a.execs.Store(1)
	a.tcpBytes.Store(9)
	a.touch()
	at := time.Date(2023, 11, 14, 22, 13, 20, 123456789, time.FixedZone("x", 3600))
	p := pulse{a: &a}
	assert.Equal(t, `{"heartbeat_seq":1,"activity_seq":1,"timestamp":"2023-11-14T21:13:20.123456789Z","last_activity":"2023-11-14T21:13:20.123456789Z",`+
		`"active_exec_sessions":1,"active_fs_streams":0,"active_tcp_streams":0,"activity_counters":{"host_messages":1,"guest_messages":0,`+
		`"exec_output_bytes":0,"fs_bytes":0,"tcp_bytes":9}}`+"\n", string(p.next(at)))
	var b beatLine
	require.NoError(t, json.Unmarshal(p.next(at.Add(time.Second)), &b))
	assert.EqualValues(t, 2, b.Seq)
	assert.True(t, b.LastActive.Equal(at), "nothing happened since")
	a.said(proto.TypeExecStdout)
	require.NoError(t, json.Unmarshal(p.next(at.Add(2*time.Second)), &b))
	assert.True(t, b.LastActive.Equal(at.Add(2*time.Second)))
	p.upper = func() (used, free uint64, ok bool) { return 3, 4, p.seq%2 == 1 }
	assert.NotContains(t, string(p.next(at)), "upper")
	assert.Regexp(t, `"tcp_bytes":9},"gomsb_upper":{"used_bytes":3,"free_bytes":4}}\n$`, string(p.next(at)))
	require.NoError(t, json.Unmarshal(p.next(at), &b))
	assert.Zero(t, testing.AllocsPerRun(100, func() { p.next(at) }))
}

func TestHeartbeatPause(t *testing.T) {
	t.Parallel()
	var p pulse
	boom := errors.New("refused")
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		assert.Equal(t, want*time.Second, p.pause(boom))
	}
	assert.Equal(t, time.Second, p.pause(nil))
	assert.Equal(t, 2*time.Second, p.pause(boom))
}

type beatSink struct {
	mu    sync.Mutex
	lines [][]byte
	got   chan struct{}
}

func (b *beatSink) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, append([]byte(nil), p...))
	b.got <- struct{}{}
	return len(p), nil
}

func (b *beatSink) Close() error { return nil }

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	sink := &beatSink{got: make(chan struct{}, 10)}
	g := boot(t, Config{Heartbeat: func() (io.WriteCloser, error) { return sink, nil }})
	r := g.raw(t)
	r.send(1, proto.TypeExecRequest, proto.ExecRequest{Cmd: "sleep", Args: []string{"60"}})
	r.next(1, proto.TypeExecStarted, nil)
	<-sink.got
	var b beatLine
	require.NoError(t, json.Unmarshal(sink.lines[0], &b))
	assert.EqualValues(t, 1, b.Seq)
	assert.EqualValues(t, 2, b.ActivitySeq)
	assert.EqualValues(t, 1, b.ExecCount)
	assert.WithinDuration(t, time.Now(), b.Timestamp, time.Minute)
}

// stuck is a host that takes no heartbeats.
type stuck struct{ until chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.until
	return len(p), nil
}

func (stuck) Close() error { return nil }

// A host that does not read heartbeats cannot keep the guest from shutting down.
func TestShutdownWithAStuckHeartbeat(t *testing.T) {
	t.Parallel()
	until, asked := make(chan struct{}), make(chan struct{})
	defer close(until)
	g := boot(t, Config{Heartbeat: func() (io.WriteCloser, error) {
		close(asked)
		return stuck{until}, nil
	}})
	<-asked
	g.raw(t).send(0, proto.TypeShutdown, nil)
	<-g.done
	require.ErrorIs(t, g.err, ErrShutdown)
}
