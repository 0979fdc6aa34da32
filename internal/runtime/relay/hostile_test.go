package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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

// A guest that breaks the framing loses its stream, and its clients theirs.
func TestHostileGuestAfterReady(t *testing.T) {
	for name, raw := range map[string][]byte{
		"too long":  {0x00, 0x40, 0x00, 0x01, 0, 0, 0, 1, 0},
		"longest":   {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0},
		"too short": {0, 0, 0, 4, 0, 0, 0, 1},
		"empty":     {0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, &guesttest.Agent{})
			p := w.attach(t)
			_, err := w.guest.Write(raw[:4])
			require.NoError(t, err)
			assert.ErrorIs(t, <-w.ran, proto.ErrFrame)
			assert.False(t, w.Goodbye())
			_, err = p.in.ReadFrame()
			assert.ErrorIs(t, err, io.EOF)
		})
	}
}

// Frames for nobody, and frames that are none, are dropped; the others still arrive.
func TestGuestFramesForNobody(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	p := w.attach(t)
	out := proto.NewWriter(w.guest)
	for _, f := range []proto.Frame{
		{ID: 0, Body: []byte("not CBOR")},
		{ID: 0, Flags: 0xff},
		{ID: proto.SlotRange(5).First(), Body: []byte{0xa0}},
		{ID: 0xffffffff, Flags: proto.FlagTerminal, Body: []byte{0xa0}},
	} {
		require.NoError(t, out.WriteFrame(f))
	}
	require.NoError(t, w.agent.Send(0, proto.TypeError, proto.CoreError{Kind: proto.KindInvalidPayload, Message: "?"}))
	require.NoError(t, w.agent.Send(0, proto.TypeReady, guesttest.Ready))
	p.exec(t, 0, "echo", "fine")
	_, data := p.until(t)
	assert.Equal(t, "fine\n", data)
	_ = p.Close()
}

// The largest frame passes both ways.
func TestLargestFrame(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	p := w.attach(t)
	id := p.exec(t, 0, "cat")
	require.Equal(t, proto.TypeExecStarted, p.next(t).Type)
	overhead, err := proto.AppendDataMessage(nil, id, proto.TypeExecStdin, make([]byte, 1<<20))
	require.NoError(t, err)
	// One byte less than the limit of input is the limit of output, whose name is longer.
	size := proto.MaxFrame - (len(overhead) - 4 - 1<<20) - 1
	want := bytes.Repeat([]byte{'x'}, size)
	sent := make(chan error, 1)
	go func() { sent <- p.out.WriteData(id, proto.TypeExecStdin, want) }()
	m := p.next(t)
	require.NoError(t, <-sent)
	got, err := proto.DecodeData(m.Payload)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got))
	_ = p.Close()
}

// What a client sends that the agent would misunderstand is still the agent's to answer:
// the relay opens nothing but requests for commands, and those without trusting them.
func TestMalformedBodiesPass(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	p := w.attach(t)
	frames := []proto.Frame{
		{ID: p.hs.IDs.First(), Flags: proto.FlagSessionStart, Body: []byte{0xff}},
		{ID: p.hs.IDs.First() + 1, Flags: proto.FlagSessionStart | proto.FlagTerminal | 0x80, Body: nil},
		{ID: 0, Flags: proto.FlagShutdown, Body: []byte("garbage")},
	}
	for _, f := range frames[:2] {
		require.NoError(t, p.out.WriteFrame(f))
	}
	// The fake agent gives up at the first; that is what the guest's own loop is for.
	assert.ErrorIs(t, errors.Join(<-w.served, io.EOF), io.EOF)
	assert.Zero(t, w.shutdowns.Load())
	_ = p.Close()
}

// Clients that come and go all the time leave nothing behind.
func TestClientsComeAndGo(t *testing.T) {
	w := start(t, &guesttest.Agent{})
	keep := w.attach(t)
	for i := range 300 {
		p := w.attach(t)
		p.exec(t, 0, "sleep")
		if i%2 == 0 {
			require.Equal(t, proto.TypeExecStarted, p.next(t).Type)
		}
		require.NoError(t, p.Close())
	}
	w.agent.Await(proto.TypeClientDisconnected, 300)
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.sessions) == 0
	}, 10*time.Second, time.Millisecond)
	keep.exec(t, 0, "echo", "here")
	_, data := keep.until(t)
	assert.Equal(t, "here\n", data)
	_ = keep.Close()
}

// A client that never reads its handshake, and one that sends half a frame and stops,
// hold nobody up.
func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, &guesttest.Agent{})
		deaf, theirs := net.Pipe()
		w.Attach(theirs)
		half := w.attach(t)
		_, err := half.Write([]byte{0, 0, 0, 100, 0, 0})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		p := w.attach(t)
		p.exec(t, 0, "echo", "x")
		_, data := p.until(t)
		assert.Equal(t, "x\n", data)
		for _, c := range []io.Closer{deaf, half, p} {
			_ = c.Close()
		}
		synctest.Wait()
	})
}

// A flood from the guest costs a client's queue and no more, also if the guest promised to
// keep to windows.
func TestFloodIsBounded(t *testing.T) {
	for _, liar := range []bool{false, true} {
		w := start(t, &guesttest.Agent{Flow: liar})
		p := w.attach(t)
		p.exec(t, 0, "flood", fmt.Sprint(16*queueBytes))
		require.Eventually(t, func() bool { return w.queued(0) > queueBytes-(64<<10) }, time.Minute, time.Millisecond)
		time.Sleep(20 * time.Millisecond)
		assert.LessOrEqual(t, w.queued(0), queueBytes)
		_ = p.Close()
	}
}

func (w *world) queued(slot int) int {
	w.mu.Lock()
	q := w.clients[slot].queue
	w.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// FuzzClientFrames sends whatever a client may send; another client is not disturbed.
func FuzzClientFrames(f *testing.F) {
	seed := func(id uint32, t proto.Type, payload any) {
		b, err := proto.AppendMessage(nil, id, t, payload)
		require.NoError(f, err)
		f.Add(b)
	}
	first := proto.SlotRange(1).First()
	seed(first, proto.TypeExecRequest, proto.ExecRequest{Cmd: "echo"})
	seed(first, proto.TypePing, proto.Empty{})
	seed(first, proto.TypeFlow, proto.Flow{Limit: 1 << 63})
	seed(0, proto.TypeShutdown, nil)
	seed(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: 2})
	f.Add(binary.BigEndian.AppendUint32(nil, proto.MaxFrame+1))
	f.Fuzz(func(t *testing.T, stream []byte) {
		host, guest := net.Pipe()
		r := New(Config{Guest: host, Log: &logged{}})
		gone := make(chan struct{})
		seen := make(chan uint32, 1)
		go func() {
			defer close(gone)
			in, out := proto.NewReader(guest), proto.NewWriter(guest)
			for {
				frame, err := in.ReadFrame()
				if err != nil {
					return
				}
				m, err := proto.ParseMessage(frame)
				switch {
				case frame.ID != 0 && !proto.SlotRange(0).Contains(frame.ID) && !proto.SlotRange(1).Contains(frame.ID):
					t.Errorf("the relay passed id %d", frame.ID)
				case err == nil && m.Type == proto.TypeBootstrap && frame.ID == 0 && r.ready == nil:
					ready := guesttest.Ready
					ready.Flow = true
					_ = out.WriteMessage(0, proto.TypeReady, ready)
				case proto.SlotRange(0).Contains(frame.ID):
					seen <- frame.ID
				}
			}
		}()
		_, err := r.Boot(t.Context(), &proto.Bootstrap{})
		require.NoError(t, err)
		ran := make(chan error, 1)
		go func() { ran <- r.Run() }()
		good := (&world{Relay: r}).attach(t)
		bad, theirs := net.Pipe()
		r.Attach(theirs)
		drained := make(chan struct{})
		go func() { defer close(drained); _, _ = io.Copy(io.Discard, bad) }()
		_, _ = bad.Write(stream)
		_ = bad.Close()
		<-drained
		require.NoError(t, good.out.WriteMessage(1, proto.TypePing, proto.Empty{}))
		assert.Equal(t, uint32(1), <-seen)
		_ = good.Close()
		_ = r.Close()
		<-ran
		_ = guest.Close()
		<-gone
	})
}
