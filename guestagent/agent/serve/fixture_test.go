//go:build linux

package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/agent/spawn"
	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

func TestMain(m *testing.M) {
	if spawn.IsHelper() {
		spawn.RunHelper()
	}
	if err := os.Chdir("/"); err != nil { // where the agent is
		panic(err)
	}
	// Whoever started the test may have it ignore these, and commands would inherit that.
	for _, sig := range []os.Signal{unix.SIGHUP, unix.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	// The collector lives as long as its process, as it should.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/gomsb/gomsb/guestagent/agent/reap.(*Table).collect"))
}

// reaper is shared: a process can have only one. No test here may use os/exec.
var reaper = reap.New()

func ptr[T any](v T) *T { return &v }

// testContext bounds every test that could hang.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// guest is a server with the host's end of its stream.
type guest struct {
	*Server
	host net.Conn
	done chan struct{} // closed when Run has returned
	err  error         // of Run
}

// streams returns the two ends of a stream between a host and a guest.
func streams(t testing.TB) (host net.Conn, stream *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fds[0]), "host")
	host, err = net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return host, os.NewFile(uintptr(fds[1]), "guest")
}

// boot runs a server. The caller uses host itself, or makes a client of it.
func boot(t testing.TB, cfg Config) *guest {
	t.Helper()
	host, stream := streams(t)
	cfg.Stream, cfg.Reaper = stream, reaper
	if cfg.Env == nil {
		cfg.Env = []string{"HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	if cfg.SetClock == nil {
		cfg.SetClock = func(time.Time) error { return errors.New("not in tests") }
	}
	return serving(t, New(cfg), host, stream)
}

// serving runs s.
func serving(t testing.TB, s *Server, host net.Conn, stream *os.File) *guest {
	t.Helper()
	g := &guest{Server: s, host: host, done: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(g.done)
		g.err = g.Run()
	})
	t.Cleanup(func() {
		_ = host.Close()
		wg.Wait()
		g.killAll()
		require.Eventually(t, func() bool { return g.running() == 0 }, time.Minute, time.Millisecond)
		_ = stream.Close()
	})
	return g
}

func (g *guest) killAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.execs {
		e.process.Signal(unix.SIGKILL)
	}
}

func (g *guest) running() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.execs)
}

// connect returns a client in a slot of the relay, as if the relay had made it.
func (g *guest) connect(t testing.TB, slot int, opts client.Options) *client.Client {
	t.Helper()
	return g.greet(t, slot, proto.Ready{AgentVersion: "test", Flow: true, Input: uint64(g.inputWindow())}, opts)
}

// greet is connect for a client that is told what a guest is like.
func (g *guest) greet(t testing.TB, slot int, ready proto.Ready, opts client.Options) *client.Client {
	t.Helper()
	// The handshake comes from the relay, not from the guest: put it before the stream.
	hello, err := proto.AppendMessage(proto.SlotRange(slot).Append(nil), 0, proto.TypeReady, ready)
	require.NoError(t, err)
	c, err := client.New(testContext(t), &greeted{Conn: g.host, hello: hello}, opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// greeted is a connection that first reads a greeting.
type greeted struct {
	net.Conn
	hello []byte
}

func (g *greeted) Read(p []byte) (int, error) {
	if len(g.hello) > 0 {
		n := copy(p, g.hello)
		g.hello = g.hello[n:]
		return n, nil
	}
	return g.Conn.Read(p)
}

// start runs a server with a client.
func start(t testing.TB, cfg Config) *client.Client {
	t.Helper()
	return boot(t, cfg).connect(t, 0, client.Options{})
}

// raw speaks to a server without a client.
type raw struct {
	t  testing.TB
	in *proto.Reader
	w  *proto.Writer
}

func (g *guest) raw(t testing.TB) *raw {
	t.Helper()
	require.NoError(t, g.host.SetDeadline(time.Now().Add(60*time.Second)))
	return &raw{t: t, in: proto.NewReader(g.host), w: proto.NewWriter(g.host)}
}

func (r *raw) send(id uint32, typ proto.Type, payload any) {
	r.t.Helper()
	require.NoError(r.t, r.w.WriteMessage(id, typ, payload))
}

// next returns the next message and decodes its payload.
func (r *raw) next(id uint32, typ proto.Type, payload any) {
	r.t.Helper()
	f, err := r.in.ReadFrame()
	require.NoError(r.t, err)
	m, err := proto.ParseMessage(f)
	require.NoError(r.t, err)
	require.Equal(r.t, typ, m.Type, "%s", m.Payload)
	require.Equal(r.t, id, m.ID)
	require.NoError(r.t, m.CheckFlags())
	if payload != nil {
		require.NoError(r.t, m.Decode(payload))
	}
}
