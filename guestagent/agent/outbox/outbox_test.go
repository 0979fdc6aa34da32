package outbox

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/guestagent/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate is a writer that takes a batch only when told to.
type gate struct {
	open    chan struct{}
	batches chan []byte
	err     error
}

func newGate() *gate { return &gate{open: make(chan struct{}), batches: make(chan []byte, 1000)} }

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.batches <- bytes.Clone(p)
	return len(p), g.err
}

func frames(t *testing.T, b []byte) []uint32 {
	t.Helper()
	var ids []uint32
	r := proto.NewReader(bytes.NewReader(b))
	for {
		f, err := r.ReadFrame()
		if errors.Is(err, io.EOF) {
			return ids
		}
		require.NoError(t, err)
		ids = append(ids, f.ID)
	}
}

// While one message is being written, those of others gather for the next write: one of
// each sender.
func TestBatches(t *testing.T) {
	t.Parallel()
	g := newGate()
	o := New(g)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, o.Message(1, proto.TypePong, proto.Empty{})) })
	require.Eventually(t, func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.writing }, time.Minute, time.Millisecond)
	for id := uint32(2); id < 6; id++ {
		wg.Go(func() {
			for range 3 {
				assert.NoError(t, o.Data(id, proto.TypeExecStdout, []byte("x")))
			}
		})
	}
	pending := func() int { o.mu.Lock(); defer o.mu.Unlock(); return len(o.buf) }
	one, err := proto.AppendDataMessage(nil, 2, proto.TypeExecStdout, []byte("x"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return pending() == 4*len(one) }, time.Minute, time.Millisecond)
	time.Sleep(10 * time.Millisecond)
	assert.Equal(t, 4*len(one), pending(), "no sender is ahead of its first message")
	close(g.open)
	wg.Wait()
	assert.Equal(t, []uint32{1}, frames(t, <-g.batches))
	assert.ElementsMatch(t, []uint32{2, 3, 4, 5}, frames(t, <-g.batches))
	rest := 0
	for len(g.batches) > 0 {
		rest += len(frames(t, <-g.batches))
	}
	assert.Equal(t, 8, rest)
}

// A message is written when Send returns.
func TestSendIsSynchronous(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	o := New(&b)
	for n := range 10 {
		require.NoError(t, o.Data(uint32(n+1), proto.TypeFSData, make([]byte, 100<<n)))
		assert.Len(t, frames(t, b.Bytes()), n+1)
	}
}

func TestOrderOfASender(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	o := New(w)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for n := range each {
				assert.NoError(t, o.Data(uint32(s+1), proto.TypeExecStdout, []byte{byte(n)}))
			}
		})
	}
	next := make([]byte, senders+1)
	in := proto.NewReader(r)
	for range senders * each {
		f, err := in.ReadFrame()
		require.NoError(t, err)
		m, err := proto.ParseMessage(f)
		require.NoError(t, err)
		p, err := proto.DecodeData(m.Payload)
		require.NoError(t, err)
		require.Equal(t, next[m.ID], p[0])
		next[m.ID]++
	}
	wg.Wait()
}

func TestErrors(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	o := New(&b)
	require.NoError(t, o.Message(1, proto.TypePong, proto.Empty{}))
	require.ErrorIs(t, o.Data(2, proto.TypeFSData, make([]byte, proto.MaxFrame)), proto.ErrFrameTooLarge)
	require.NoError(t, o.Message(3, proto.TypePong, proto.Empty{}))
	assert.Equal(t, []uint32{1, 3}, frames(t, b.Bytes()), "what cannot be encoded leaves no trace")

	boom := errors.New("boom")
	g := newGate()
	g.err = boom
	close(g.open)
	o = New(g)
	require.ErrorIs(t, o.Message(1, proto.TypePong, proto.Empty{}), boom)
	require.ErrorIs(t, o.Message(2, proto.TypePong, proto.Empty{}), boom)
	assert.Len(t, g.batches, 1)
}

// Everybody who waits hears of an error.
func TestErrorWakesAll(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	g := newGate()
	g.err = boom
	o := New(g)
	var wg sync.WaitGroup
	for id := range uint32(10) {
		wg.Go(func() { assert.ErrorIs(t, o.Message(id, proto.TypePong, proto.Empty{}), boom) })
	}
	time.Sleep(10 * time.Millisecond)
	close(g.open)
	wg.Wait()
}

func TestDataDoesNotAllocate(t *testing.T) {
	o := New(io.Discard)
	p := make([]byte, 4096)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = o.Data(1, proto.TypeExecStdout, p) }), 1.0, "the closure at most")
}
