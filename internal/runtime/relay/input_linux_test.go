package relay

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// give writes pieces of a command's input, and its end, until that fails.
func (p *peer) give(id uint32, pieces int) error {
	piece := proto.Data{Data: []byte(strings.Repeat("x", 64<<10))}
	for range pieces {
		if err := p.out.WriteMessage(id, proto.TypeExecStdin, piece); err != nil {
			return err
		}
	}
	return p.out.WriteMessage(id, proto.TypeExecStdin, proto.Data{})
}

// held is how much input is held for a session.
func (w *world) held(id uint32) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sessions[id]
	if s == nil {
		return 0
	}
	s.input.mu.Lock()
	defer s.input.mu.Unlock()
	return s.input.bytes
}

// TestStrangersInputStallsNobody: the client that knows no windows is one of microsandbox's
// own.
func TestStrangersInputStallsNobody(t *testing.T) {
	w := startReal(t)
	stranger, other := w.attach(t), w.client(t)
	hungry := filepath.Join(t.TempDir(), "hungry")
	id := stranger.exec(t, 0, "sh", "-c", "until [ -e "+hungry+" ]; do sleep 0.1; done; wc -c")
	given := make(chan error, 1)
	go func() { given <- stranger.give(id, 1024) }()
	require.Eventually(t, func() bool { return w.held(id) >= heldBytes }, 60*time.Second, time.Millisecond)
	works(t, other)
	assert.Less(t, w.held(id), heldBytes+(128<<10), "then it is not read")
	assert.Empty(t, given)
	require.NoError(t, os.WriteFile(hungry, nil, 0o600))
	types, data := stranger.until(t)
	assert.Equal(t, "67108864\n", data)
	assert.NotContains(t, types, proto.TypeFlow, "it would not know it")
	require.NoError(t, <-given)
	require.NoError(t, stranger.Close())
}

// TestStrangerLeaves while it is not read: its command ends.
func TestStrangerLeaves(t *testing.T) {
	w := startReal(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	conn, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	theirs, err := l.Accept()
	require.NoError(t, err)
	w.Attach(theirs)
	stranger := &peer{Conn: conn, in: proto.NewReader(conn), out: proto.NewWriter(conn)}
	stranger.hs, err = stranger.in.ReadHandshake()
	require.NoError(t, err)
	id := stranger.exec(t, 0, "sleep", "1000")
	var started proto.ExecStarted
	require.NoError(t, stranger.next(t).Decode(&started))
	given := make(chan error, 1)
	go func() { given <- stranger.give(id, 1024) }()
	require.Eventually(t, func() bool { return w.held(id) >= heldBytes }, 60*time.Second, time.Millisecond)
	require.NoError(t, syscall.Kill(int(started.PID), 0))
	require.NoError(t, stranger.Close())
	require.Error(t, <-given)
	require.Eventually(t, func() bool { return syscall.Kill(int(started.PID), 0) != nil }, 60*time.Second, time.Millisecond)
}

// TestStrangersWordsOvertakeInput that is held.
func TestStrangersWordsOvertakeInput(t *testing.T) {
	w := startReal(t)
	stranger := w.attach(t)
	id := stranger.exec(t, 0, "sleep", "1000")
	require.NoError(t, stranger.give(id, 64))
	require.Positive(t, w.held(id))
	echo := stranger.exec(t, 1, "echo", "fine")
	for m := stranger.next(t); m.ID != echo || m.Flags&proto.FlagTerminal == 0; m = stranger.next(t) {
		assert.NotEqual(t, proto.TypeFlow, m.Type, "it would not know it")
	}
	require.NoError(t, stranger.out.WriteMessage(id, proto.TypeExecSignal, proto.ExecSignal{Signal: sigkill}))
	stranger.until(t)
	assert.Zero(t, w.held(id))
	require.NoError(t, stranger.Close())
}

// TestStrangersInputIsTaken whole and in order, however late.
func TestStrangersInputIsTaken(t *testing.T) {
	w := startReal(t)
	stranger := w.attach(t)
	const pieces = 400
	id := stranger.exec(t, 0, "sh", "-c", "read go; tr -d .; wc -c </dev/null; echo end")
	given := make(chan error, 1)
	go func() {
		for n := range pieces {
			piece := strings.Repeat(".", 64<<10) + string(rune('a'+n%26))
			if n == 0 {
				piece = "go\n" + piece
			}
			if err := stranger.out.WriteMessage(id, proto.TypeExecStdin, proto.Data{Data: []byte(piece)}); err != nil {
				given <- err
				return
			}
		}
		given <- stranger.out.WriteMessage(id, proto.TypeExecStdin, proto.Data{})
	}()
	var want strings.Builder
	for n := range pieces {
		want.WriteByte(byte('a' + n%26))
	}
	types, data := stranger.until(t)
	require.NoError(t, <-given)
	assert.Equal(t, want.String()+"0\nend\n", data)
	assert.NotContains(t, types, proto.TypeFlow)
	require.NoError(t, stranger.Close())
}

// TestStrangersInputIsLost in the end, so that the client is heard again.
func TestStrangersInputIsLost(t *testing.T) {
	w := startRealWith(t, 10*time.Millisecond)
	stranger := w.attach(t)
	id := stranger.exec(t, 0, "sleep", "1000")
	given := make(chan error, 1)
	go func() { given <- stranger.give(id, 200) }()
	for {
		if m := stranger.next(t); m.Type == proto.TypeExecStdinError {
			var p proto.ExecStdinError
			require.NoError(t, m.Decode(&p))
			require.NotNil(t, p.Errno)
			assert.EqualValues(t, etimedout, *p.Errno)
			break
		}
	}
	require.NoError(t, <-given)
	require.NoError(t, stranger.out.WriteMessage(id, proto.TypeExecSignal, proto.ExecSignal{Signal: sigkill}))
	stranger.until(t)
	require.NoError(t, stranger.Close())
}

// TestPausedGuestLosesNoInput, however long it stands still.
func TestPausedGuestLosesNoInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Stall: time.Second})
		c := &client{relay: r, queue: newQueue(r.pool, nil)}
		i := newInput(0)
		f := r.pool.get(heldBytes)
		require.Equal(t, holds, i.offer(f, heldBytes))
		r.Pause("for a test")
		back := make(chan struct{})
		go func() {
			defer close(back)
			c.waitForSpace(1, i)
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.True(t, i.full())
		r.paused.Store(nil)
		<-back
		assert.False(t, i.full(), "now it is the guest's fault")
		assert.Len(t, c.queue.frames, 1, "the client is told")
	})
}
