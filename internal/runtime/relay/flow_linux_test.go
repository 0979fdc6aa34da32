package relay

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/agent/serve"
	agent "github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// reaper is shared: a process can have only one.
var reaper = reap.New()

// never is a limit that no test lives to see.
const never = time.Hour

// startReal boots a relay with a real agent behind it.
func startReal(t *testing.T) *world {
	t.Helper()
	return startRealWith(t, never)
}

func startRealWith(t *testing.T, stall time.Duration) *world {
	t.Helper()
	w := &world{log: &logged{}, ran: make(chan error, 1)}
	host, guest := net.Pipe()
	w.guest = guest
	w.Relay = New(Config{Guest: host, Log: w.log, Stall: stall})
	over := make(chan struct{})
	go func() {
		defer close(over)
		s := serve.New(serve.Config{Stream: guest, Reaper: reaper, Env: []string{"PATH=/usr/bin:/bin"}})
		_, err := proto.NewReader(guest).ReadFrame() // the bootstrap
		if assert.NoError(t, err) && assert.NoError(t, s.Ready(proto.Ready{})) {
			_ = s.Run()
		}
	}()
	t.Cleanup(func() {
		_ = w.Close()
		_ = guest.Close()
		<-over
	})
	_, err := w.Boot(t.Context(), &proto.Bootstrap{})
	require.NoError(t, err)
	go func() { w.ran <- w.Run() }()
	return w
}

func (w *world) client(t *testing.T) *agent.Client {
	t.Helper()
	ours, theirs := net.Pipe()
	w.Attach(theirs)
	c, err := agent.New(t.Context(), ours, agent.Options{StallLimit: never})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// much is output far beyond all buffers, and the command that makes it.
func much() (cmd string, args []string, want []byte) {
	const lines = 3_000_000
	for n := range lines {
		want = append(strconv.AppendInt(want, int64(n+1), 10), '\n')
	}
	return "seq", []string{strconv.Itoa(lines)}, want
}

// works runs commands through c, which fails if they have to wait for somebody else.
func works(t *testing.T, c *agent.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for range 20 {
		out, err := c.ExecCollect(ctx, agent.Command{Name: "echo", Args: []string{"fine"}}, nil)
		require.NoError(t, err)
		assert.Equal(t, "fine\n", string(out.Stdout))
	}
}

// TestDeafClientStallsNobody: a client that reads nothing at all keeps its output waiting
// in the guest, and gets every byte of it later.
func TestDeafClientStallsNobody(t *testing.T) {
	w := startReal(t)
	deaf, other := w.attach(t), w.client(t)
	cmd, args, want := much()
	deaf.exec(t, 0, cmd, args...)
	require.Eventually(t, func() bool { return w.queued(0) >= windowBytes }, 30*time.Second, time.Millisecond)
	works(t, other)
	assert.Less(t, w.queued(0), 2*windowBytes)
	_, data := deaf.until(t)
	assert.True(t, string(want) == data, "%d bytes, want %d", len(data), len(want))
	_ = deaf.Close()
}

// TestUnreadSessionStallsNobody beside it on the same connection.
func TestUnreadSessionStallsNobody(t *testing.T) {
	c := startReal(t).client(t)
	cmd, args, want := much()
	e, err := c.Exec(t.Context(), agent.Command{Name: cmd, Args: args})
	require.NoError(t, err)
	killed, err := c.Exec(t.Context(), agent.Command{Name: "yes"})
	require.NoError(t, err)
	works(t, c)
	var got bytes.Buffer
	code, err := e.Copy(t.Context(), &got, nil)
	require.NoError(t, err)
	assert.Zero(t, code)
	assert.True(t, bytes.Equal(want, got.Bytes()), "%d bytes, want %d", got.Len(), len(want))
	require.NoError(t, killed.Kill(t.Context()))
	code, err = killed.Wait(t.Context())
	require.NoError(t, err)
	assert.Equal(t, -1, code)
}

// TestUntakenInputStallsNobody, neither on the same connection nor on others.
func TestUntakenInputStallsNobody(t *testing.T) {
	w := startReal(t)
	c, other := w.client(t), w.client(t)
	e, err := c.Exec(t.Context(), agent.Command{Name: "sleep", Args: []string{"1000"}})
	require.NoError(t, err)
	written := make(chan error, 1)
	go func() {
		_, err := e.Write(make([]byte, 64<<20))
		written <- err
	}()
	works(t, c)
	works(t, other)
	require.NoError(t, e.Kill(t.Context()))
	require.Error(t, <-written)
}

// TestTakenInput arrives whole, many windows of it, and its limits do not widen the windows
// of output.
func TestTakenInput(t *testing.T) {
	w := startReal(t)
	c := w.client(t)
	e, err := c.Exec(t.Context(), agent.Command{Name: "sh", Args: []string{"-c", "wc -c; yes"}})
	require.NoError(t, err)
	_, err = e.Write(make([]byte, 64<<20))
	require.NoError(t, err)
	require.NoError(t, e.CloseStdin(t.Context()))
	ev, err := e.Recv(t.Context())
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(ev.Data), "67108864\n"), "%.20q", ev.Data)
	works(t, c)
	require.NoError(t, e.Kill(t.Context()))
	_, err = e.Wait(t.Context())
	require.NoError(t, err)
}

// TestAbandonedSessionEnds: giving a session up lets its command go on to its end.
func TestAbandonedSessionEnds(t *testing.T) {
	w := startReal(t)
	c := w.client(t)
	cmd, args, _ := much()
	e, err := c.Exec(t.Context(), agent.Command{Name: cmd, Args: args})
	require.NoError(t, err)
	works(t, c)
	open := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.sessions)
	}
	require.Equal(t, 1, open())
	e.Close()
	require.Eventually(t, func() bool { return open() == 0 }, 30*time.Second, time.Millisecond)
}
