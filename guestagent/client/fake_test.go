package client

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/guestagent/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// How long tests wait for what has to come, and how often they look.
const (
	testPatience = 20 * time.Second
	testTick     = time.Millisecond
)

func ptr[T any](v T) *T { return &v }

// testContext bounds every test that could hang.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// guest is one connection of a fake relay with a scripted agent behind it.
type guest struct {
	t    testing.TB
	conn net.Conn
	mu   sync.Mutex
	w    *proto.Writer

	ready proto.Ready // what the guest says of itself beyond what all do
}

func (g *guest) send(id uint32, t proto.Type, payload any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.w.WriteMessage(id, t, payload) // the client may be gone
}

func (g *guest) data(id uint32, t proto.Type, p string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.w.WriteData(id, t, []byte(p))
}

func (g *guest) raw(b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.conn.Write(b)
	return err
}

func (g *guest) handshake(generation uint8) error {
	said := g.ready
	said.BootTimeNs, said.InitTimeNs, said.ReadyTimeNs, said.AgentVersion = 1, 2, 3, "test"
	payload, err := proto.AppendPayload(nil, said)
	if err != nil {
		return err
	}
	ready, err := proto.Message{Generation: generation, Type: proto.TypeReady, Payload: payload}.Append(nil)
	if err != nil {
		return err
	}
	return g.raw(append(proto.SlotRange(3).Append(nil), ready...))
}

// script answers one message of the client.
type script func(g *guest, m proto.Message)

// serve handshakes and runs the script on every message until the connection ends.
func (g *guest) serve(generation uint8, run script) {
	if g.handshake(generation) != nil {
		return
	}
	r := proto.NewReader(g.conn)
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return
		}
		m, err := proto.ParseMessage(f)
		if err != nil {
			g.t.Errorf("client sent a bad envelope: %v", err)
			return
		}
		if err := m.CheckFlags(); err != nil {
			g.t.Errorf("client: %v", err)
		}
		m.Payload = bytes.Clone(m.Payload)
		run(g, m)
	}
}

// listen runs a fake relay and returns its socket.
func listen(t testing.TB, handle func(conn net.Conn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return path
}

// connect dials a fake guest that runs the script.
func connect(t testing.TB, opts Options, run script) *Client {
	t.Helper()
	return connectGen(t, opts, proto.Generation, run)
}

func connectGen(t testing.TB, opts Options, generation uint8, run script) *Client {
	t.Helper()
	path := listen(t, func(conn net.Conn) {
		(&guest{t: t, conn: conn, w: proto.NewWriter(conn)}).serve(generation, run)
	})
	c, err := Dial(testContext(t), path, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// decode decodes a payload inside a script.
func decode[T any](g *guest, m proto.Message) T {
	var v T
	if err := m.Decode(&v); err != nil {
		g.t.Errorf("client sent %s: %v", m.Type, err)
	}
	return v
}
