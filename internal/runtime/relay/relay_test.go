package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
)

func TestMain(m *testing.M) {
	// The collector of processes lives as long as its process, as it should.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/gomsb/gomsb/guestagent/agent/reap.(*Table).collect"))
}

// logged collects what a relay logs.
type logged struct {
	mu      sync.Mutex
	entries []string
}

func (l *logged) Output(session uint64, stderr, tty bool, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, fmt.Sprintf("%d %v %v %s", session, stderr, tty, data))
}

func (l *logged) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.entries...)
}

// world is a relay with a fake agent behind it.
type world struct {
	*Relay
	agent     *guesttest.Agent
	log       *logged
	shutdowns atomic.Int32
	ran       chan error
	served    chan error // how the agent's loop ended
	guest     net.Conn   // the agent's end
}

// start boots a relay. attached ends are net.Pipes, so nothing is buffered but by us.
func start(t *testing.T, agent *guesttest.Agent) *world {
	t.Helper()
	w := &world{agent: agent, log: &logged{}, ran: make(chan error, 1), served: make(chan error, 2)}
	host, guest := net.Pipe()
	w.guest = guest
	w.Relay = New(Config{Guest: host, Log: w.log, OnShutdown: func() { w.shutdowns.Add(1) }})
	over := make(chan struct{})
	go func() {
		defer close(over)
		w.served <- agent.Serve(guest)
	}()
	t.Cleanup(func() {
		_ = w.Close()
		_ = guest.Close()
		<-over
	})
	ready, err := w.Boot(t.Context(), &proto.Bootstrap{Hostname: "h"})
	require.NoError(t, err)
	assert.Equal(t, agent.Flow, ready.Flow)
	ready.Flow = false
	assert.Equal(t, guesttest.Ready, ready)
	go func() { w.ran <- w.Run() }()
	return w
}

// peer is a client at its end of a connection.
type peer struct {
	net.Conn
	in  *proto.Reader
	out *proto.Writer
	hs  proto.Handshake
}

func (w *world) attach(t *testing.T) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	w.Attach(theirs)
	p := &peer{Conn: ours, in: proto.NewReader(ours), out: proto.NewWriter(ours)}
	var err error
	p.hs, err = p.in.ReadHandshake()
	require.NoError(t, err)
	return p
}

func (p *peer) exec(t *testing.T, offset uint32, cmd string, args ...string) uint32 {
	t.Helper()
	id := p.hs.IDs.First() + offset
	require.NoError(t, p.out.WriteMessage(id, proto.TypeExecRequest, proto.ExecRequest{Cmd: cmd, Args: args, TTY: cmd == "cat"}))
	return id
}

// next reads one message.
func (p *peer) next(t *testing.T) proto.Message {
	t.Helper()
	f, err := p.in.ReadFrame()
	require.NoError(t, err)
	f.Body = bytes.Clone(f.Body)
	m, err := proto.ParseMessage(f)
	require.NoError(t, err)
	return m
}

// until reads up to a terminal frame and returns the types and data on the way.
func (p *peer) until(t *testing.T) (types, data string) {
	t.Helper()
	for {
		m := p.next(t)
		types += string(m.Type) + " "
		if d, err := proto.DecodeData(m.Payload); err == nil {
			data += string(d)
		}
		if m.Flags&proto.FlagTerminal != 0 {
			return types, data
		}
	}
}

func TestHandshakeAndSlots(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	raw, theirs := net.Pipe()
	w.Attach(theirs)
	head := make([]byte, 8)
	_, err := io.ReadFull(raw, head)
	require.NoError(t, err)
	assert.Equal(t, []byte{0, 0, 0, 1, 1, 0xff, 0xff, 0xff}, head)
	var ready []byte
	ready, err = proto.AppendMessage(ready, 0, proto.TypeReady, guesttest.Ready)
	require.NoError(t, err)
	frame := make([]byte, len(ready))
	_, err = io.ReadFull(raw, frame)
	require.NoError(t, err)
	assert.Equal(t, ready, frame, "the ready frame is passed on byte for byte")

	var peers []*peer
	for slot := 1; slot < proto.MaxClients; slot++ {
		p := w.attach(t)
		assert.Equal(t, proto.SlotRange(slot), p.hs.IDs)
		peers = append(peers, p)
	}
	ours, theirs := net.Pipe()
	w.Attach(theirs)
	_, err = ours.Read(head)
	assert.ErrorIs(t, err, io.EOF, "one too many is closed without a word")
	require.NoError(t, peers[9].Close())
	w.agent.Await(proto.TypeClientDisconnected, 1)
	require.Eventually(t, func() bool {
		ours, theirs := net.Pipe()
		defer func() { _ = ours.Close() }()
		w.Attach(theirs)
		_, err := io.ReadFull(ours, head)
		return err == nil && binary.BigEndian.Uint32(head) == peers[9].hs.IDs.Start
	}, 10*time.Second, time.Millisecond, "the lowest free slot is used again")
	for _, p := range peers {
		_ = p.Close()
	}
	_ = raw.Close()
}

func TestTwoClients(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	a, b := w.attach(t), w.attach(t)
	a.exec(t, 0, "echo", "for", "a")
	types, data := a.until(t)
	b.exec(t, 0, "warn", "for", "b")
	assert.Equal(t, "core.exec.started core.exec.stdout core.exec.exited ", types)
	assert.Equal(t, "for a\n", data)
	_, data = b.until(t)
	assert.Equal(t, "for b\n", data)

	// Ping and unknown payloads are none of the relay's business.
	require.NoError(t, a.out.WriteMessage(a.hs.IDs.First()+1, proto.TypePing, proto.Empty{}))
	assert.Equal(t, proto.TypePong, a.next(t).Type)

	// a leaves: its commands die, b's do not, and b hears nothing of it.
	sleeping := a.exec(t, 2, "sleep")
	require.Equal(t, proto.TypeExecStarted, a.next(t).Type)
	cat := b.exec(t, 1, "cat")
	require.Equal(t, proto.TypeExecStarted, b.next(t).Type)
	require.NoError(t, a.Close())
	gone := w.agent.Await(proto.TypeClientDisconnected, 1)
	var range_ proto.ClientDisconnected
	require.NoError(t, gone.Decode(&range_))
	assert.Equal(t, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: 33554431}, range_)
	var signals []proto.Message
	for _, m := range w.agent.Received() {
		if m.Type == proto.TypeExecSignal {
			signals = append(signals, m)
		}
	}
	require.Len(t, signals, 1)
	assert.Equal(t, sleeping, signals[0].ID)
	var sig proto.ExecSignal
	require.NoError(t, signals[0].Decode(&sig))
	assert.Equal(t, int32(9), sig.Signal)

	require.NoError(t, b.out.WriteData(cat, proto.TypeExecStdin, []byte("still here")))
	require.NoError(t, b.out.WriteData(cat, proto.TypeExecStdin, nil))
	_, data = b.until(t)
	assert.Equal(t, "still here", data)
	assert.Equal(t, []string{"1 false false for a\n", "2 true false for b\n", "4 false true still here"}, w.log.list())
	require.NoError(t, b.Close())
}

func TestFilter(t *testing.T) {
	for name, frame := range map[string]proto.Frame{
		"id below":            {ID: proto.SlotRange(0).First(), Flags: proto.FlagSessionStart, Body: []byte{0xa0}},
		"id at the end":       {ID: proto.SlotRange(1).End, Body: []byte{0xa0}},
		"control":             {ID: 0, Body: []byte{0xa0}},
		"control as session":  {ID: 0, Flags: proto.FlagSessionStart, Body: []byte{0xa0}},
		"control as terminal": {ID: 0, Flags: proto.FlagTerminal, Body: []byte{0xa0}},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, &guesttest.Agent{})
			first, p := w.attach(t), w.attach(t)
			require.NoError(t, p.out.WriteFrame(frame))
			_, err := p.in.ReadFrame()
			assert.ErrorIs(t, err, io.EOF)
			w.agent.Await(proto.TypeClientDisconnected, 1)
			for _, m := range w.agent.Received() {
				assert.NotEqual(t, proto.TypeExecRequest, m.Type)
			}
			first.exec(t, 0, "echo", "x")
			_, data := first.until(t)
			assert.Equal(t, "x\n", data, "others are not disturbed")
			_ = first.Close()
			_ = p.Close()
		})
	}
	for name, raw := range map[string][]byte{"too short": {0, 0, 0, 4, 1, 2, 3, 4}, "too long": {0, 64, 0, 1, 1, 2, 3, 4}} {
		t.Run(name, func(t *testing.T) {
			w := start(t, &guesttest.Agent{})
			p := w.attach(t)
			go func() { _, _ = p.Write(raw) }()
			_, err := p.in.ReadFrame()
			assert.ErrorIs(t, err, io.EOF)
			_ = p.Close()
		})
	}
}

func TestFramesPassUnopened(t *testing.T) {
	// An envelope in another key order, with an unknown key and a longer integer form:
	// re-encoding would change it.
	body := []byte("\xa4\x61p\x41\xa0\x61t\x69core.ping\x61v\x18\x07\x61x\xf6")
	host, guest := net.Pipe()
	r := New(Config{Guest: host, Log: &logged{}})
	echoed := make(chan []byte, 1)
	go func() {
		in, out := proto.NewReader(guest), proto.NewWriter(guest)
		for {
			f, err := in.ReadFrame()
			if err != nil {
				return
			}
			if m, err := proto.ParseMessage(f); err == nil && m.Type == proto.TypeBootstrap {
				_ = out.WriteMessage(0, proto.TypeReady, guesttest.Ready)
				continue
			}
			if f.ID == 5 {
				echoed <- bytes.Clone(f.Body)
				_ = out.WriteFrame(f)
			}
		}
	}()
	_, err := r.Boot(t.Context(), &proto.Bootstrap{})
	require.NoError(t, err)
	go func() { _ = r.Run() }()
	w := &world{Relay: r}
	p := w.attach(t)
	require.NoError(t, p.out.WriteFrame(proto.Frame{ID: 5, Flags: 0x80, Body: body}))
	f, err := p.in.ReadFrame()
	require.NoError(t, err)
	assert.Equal(t, proto.Frame{ID: 5, Flags: 0x80, Body: body}, f)
	assert.Equal(t, body, <-echoed)
	require.NoError(t, p.Close())
	require.NoError(t, r.Close())
	<-r.Done()
	_ = guest.Close()
}

func TestBootFailures(t *testing.T) {
	var resolved []proto.DefaultUser
	boot := func(t *testing.T, ctx context.Context, agent *guesttest.Agent) error {
		host, guest := net.Pipe()
		r := New(Config{Guest: host, Log: &logged{}, OnResolved: func(u proto.DefaultUser) { resolved = append(resolved, u) }})
		done := make(chan struct{})
		go func() { defer close(done); _ = agent.Serve(guest) }()
		_, err := r.Boot(ctx, &proto.Bootstrap{})
		_ = r.Close()
		_ = guest.Close()
		<-done
		return err
	}
	err := boot(t, t.Context(), &guesttest.Agent{BootFailure: &proto.CoreError{Kind: "mount", Message: "no such device"}})
	var guest *GuestError
	require.ErrorAs(t, err, &guest)
	assert.Equal(t, GuestError{Kind: "mount", Message: "no such device"}, *guest)
	require.NoError(t, boot(t, t.Context(), &guesttest.Agent{NoResolved: true}))
	assert.Empty(t, resolved)
	require.NoError(t, boot(t, t.Context(), &guesttest.Agent{DefaultUser: proto.DefaultUser{UID: 1000, GID: 5}}))
	assert.Equal(t, []proto.DefaultUser{{UID: 1000, GID: 5}}, resolved)

	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("not ready in time")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 180*time.Second, cause)
		defer cancel()
		began := time.Now()
		assert.ErrorIs(t, boot(t, ctx, &guesttest.Agent{NeverReady: true}), cause)
		assert.Equal(t, 180*time.Second, time.Since(began))
	})

	for name, send := range map[string][]byte{"hang up": {}, "garbage": {0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff}, "bad length": {0xff, 0, 0, 0}} {
		host, guest := net.Pipe()
		r := New(Config{Guest: host, Log: &logged{}})
		go func() {
			_, _ = proto.NewReader(guest).ReadFrame()
			_, _ = guest.Write(send)
			_ = guest.Close()
		}()
		_, err := r.Boot(t.Context(), &proto.Bootstrap{})
		assert.Error(t, err, name)
		_ = r.Close()
	}
}

// departed is a guest that has said something and hung up: of what it is told it hears
// the bootstrap only.
type departed struct {
	net.Conn
	said  io.Reader
	heard int
}

func (d *departed) Read(p []byte) (int, error) { return d.said.Read(p) }

func (d *departed) Write(p []byte) (int, error) {
	if d.heard++; d.heard > 1 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

// What a guest said counts, also if it does not hear the answer to something before.
func TestBootFailureBeforeTheAcknowledgement(t *testing.T) {
	resolved, err := proto.AppendMessage(nil, 0, proto.TypeInitResolved, proto.InitResolved{})
	require.NoError(t, err)
	failed, err := proto.AppendMessage(nil, 0, proto.TypeError, proto.CoreError{Kind: "network", Message: "no eth0"})
	require.NoError(t, err)
	boot := func(said ...[]byte) error {
		ours, theirs := net.Pipe()
		_ = theirs.Close()
		r := New(Config{Guest: &departed{Conn: ours, said: bytes.NewReader(bytes.Join(said, nil))}, Log: &logged{}})
		defer func() { _ = r.Close() }()
		_, err := r.Boot(t.Context(), &proto.Bootstrap{})
		return err
	}
	var guest *GuestError
	require.ErrorAs(t, boot(resolved, failed), &guest)
	assert.Equal(t, "no eth0", guest.Message)
	assert.ErrorIs(t, boot(resolved), syscall.EPIPE)
}

func TestShutdownByClient(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	p := w.attach(t)
	// The flag alone, on another message, is for the agent to refuse.
	require.NoError(t, p.out.WriteMessage(0, proto.TypeShutdown, nil))
	assert.ErrorIs(t, <-w.ran, io.EOF)
	assert.True(t, w.agent.Stopped())
	assert.True(t, w.Goodbye())
	assert.Equal(t, int32(1), w.shutdowns.Load())
	_, err := p.in.ReadFrame()
	assert.ErrorIs(t, err, io.EOF, "clients are hung up on")
	ours, theirs := net.Pipe()
	w.Attach(theirs)
	_, err = ours.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "and no new ones served")
}

func TestGuestCutOffIsNoGoodbye(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	go func() { _, _ = w.guest.Write([]byte{0, 0}) }()
	time.AfterFunc(10*time.Millisecond, func() { _ = w.guest.Close() })
	assert.ErrorIs(t, <-w.ran, io.ErrUnexpectedEOF)
	assert.False(t, w.Goodbye())
}

func TestLastFramesReachClients(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	p := w.attach(t)
	id := p.exec(t, 0, "sleep")
	require.Equal(t, proto.TypeExecStarted, p.next(t).Type)
	require.NoError(t, w.agent.Send(id, proto.TypeExecExited, proto.ExecExited{Code: -1}))
	require.NoError(t, w.guest.Close())
	require.ErrorIs(t, <-w.ran, io.EOF)
	assert.Equal(t, proto.TypeExecExited, p.next(t).Type)
}

func TestSlowClientAloneStallsOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, &guesttest.Agent{})
		slow := w.attach(t)
		const size = 3 * queueBytes
		slow.exec(t, 0, "flood", fmt.Sprint(size))
		time.Sleep(10 * time.Minute)
		_, data := slow.until(t)
		assert.Len(t, data, size, "it loses nothing however long it takes")
		_ = slow.Close()
		synctest.Wait()
	})
}

func TestSlowClientIsCutOffForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, &guesttest.Agent{})
		slow, other := w.attach(t), w.attach(t)
		slow.exec(t, 0, "flood", fmt.Sprint(3*queueBytes))
		synctest.Wait()
		began := time.Now()
		other.exec(t, 0, "echo", "hello")
		_, data := other.until(t)
		assert.Equal(t, "hello\n", data)
		assert.InDelta(t, 30, time.Since(began).Seconds(), 1)
		_, err := io.Copy(io.Discard, slow.Conn)
		assert.NoError(t, err, "the slow client is disconnected")
		_ = slow.Close()
		_ = other.Close()
		synctest.Wait()
	})
}

func TestClockSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, &guesttest.Agent{})
		l := &pipeListener{closed: make(chan struct{})}
		served := make(chan error, 1)
		began := time.Now()
		go func() { served <- w.Serve(l) }()
		time.Sleep(125 * time.Second)
		synctest.Wait()
		var at []float64
		for _, m := range w.agent.Received() {
			if m.Type == proto.TypeClockSync {
				var c proto.ClockSync
				require.NoError(t, m.Decode(&c))
				at = append(at, time.Unix(0, int64(c.UnixTimeNanos)).Sub(began).Seconds())
			}
		}
		assert.Equal(t, []float64{0, 60, 120}, at)
		close(l.closed)
		assert.NoError(t, <-served)
	})
}

type pipeListener struct{ closed chan struct{} }

func (l *pipeListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l *pipeListener) Close() error              { return nil }
func (l *pipeListener) Addr() net.Addr            { return nil }

func TestServeOnASocket(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- w.Serve(l) }()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			conn, err := net.Dial("unix", l.Addr().String())
			if !assert.NoError(t, err) {
				return
			}
			p := &peer{Conn: conn, in: proto.NewReader(conn), out: proto.NewWriter(conn)}
			p.hs, err = p.in.ReadHandshake()
			assert.NoError(t, err)
			for n := range 50 {
				p.exec(t, uint32(n), "echo", strings.Repeat(fmt.Sprint(i), n*100))
				_, data := p.until(t)
				assert.Equal(t, strings.Repeat(fmt.Sprint(i), n*100)+"\n", data)
			}
			_ = conn.Close()
		})
	}
	wg.Wait()
	require.NoError(t, l.Close())
	require.NoError(t, <-served)
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	// Only steady state: pools may be emptied by a collection in between.
	pool := &framePool{}
	q := newQueue(pool, nil)
	var wire []byte
	wire, err := proto.AppendDataMessage(wire, 1, proto.TypeTCPData, make([]byte, 1000))
	require.NoError(t, err)
	src := bytes.NewReader(wire)
	in := &frameReader{r: bufio.NewReaderSize(src, guestBuffer), pool: pool}
	var batch []*frame
	n := testing.AllocsPerRun(1000, func() {
		src.Reset(wire)
		f, err := in.next()
		if err != nil {
			t.Error(err)
			return
		}
		q.push(f)
		batch, _ = q.take(batch[:0])
		for _, f := range batch {
			pool.release(f)
		}
	})
	assert.LessOrEqual(t, n, 0.1)
}

func FuzzGuestFrames(f *testing.F) {
	ready, err := proto.AppendMessage(nil, 0, proto.TypeReady, guesttest.Ready)
	require.NoError(f, err)
	resolved, err := proto.AppendMessage(nil, 0, proto.TypeInitResolved, proto.InitResolved{})
	require.NoError(f, err)
	out, err := proto.AppendDataMessage(nil, 1, proto.TypeExecStdout, []byte("x"))
	require.NoError(f, err)
	f.Add(append(append(resolved, ready...), out...))
	f.Add(ready)
	withWindows := guesttest.Ready
	withWindows.Flow = true
	ready, err = proto.AppendMessage(nil, 0, proto.TypeReady, withWindows)
	require.NoError(f, err)
	f.Add(append(ready, out...))
	f.Add([]byte{0, 0, 0, 5, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		host, guest := net.Pipe()
		r := New(Config{Guest: host, Log: &logged{}})
		done := make(chan struct{})
		go func() {
			defer close(done)
			go func() { _, _ = io.Copy(io.Discard, guest) }()
			_, _ = guest.Write(stream)
			_ = guest.Close()
		}()
		if _, err := r.Boot(t.Context(), &proto.Bootstrap{}); err == nil {
			ours, theirs := net.Pipe()
			r.Attach(theirs)
			go func() { _, _ = io.Copy(io.Discard, ours) }()
			require.Error(t, r.Run())
			_ = ours.Close()
		}
		_ = r.Close()
		<-done
	})
}

func TestRenew(t *testing.T) {
	t.Parallel()
	var last []byte
	for range 2 {
		host, guest := net.Pipe()
		r := New(Config{Guest: host})
		sent := make(chan error, 1)
		go func() { sent <- r.Renew() }()
		f, err := proto.NewReader(guest).ReadFrame()
		require.NoError(t, err)
		require.NoError(t, <-sent)
		m, err := proto.ParseMessage(f)
		require.NoError(t, err)
		require.NoError(t, m.CheckFlags())
		assert.Equal(t, proto.TypeRenew, m.Type)
		var got proto.Renew
		require.NoError(t, m.Decode(&got))
		require.NoError(t, got.Validate())
		assert.WithinDuration(t, time.Now(), time.Unix(0, int64(got.UnixTimeNanos)), time.Minute)
		assert.NotEqual(t, last, got.Entropy, "each copy gets its own")
		last = got.Entropy
		require.NoError(t, r.Close())
		_ = guest.Close()
	}
}
