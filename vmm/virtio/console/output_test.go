package console

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gate is a writer that waits for a permit before each Write.
type gate struct {
	permits chan struct{}
	mu      sync.Mutex
	buf     bytes.Buffer
	err     error
}

func newGate() *gate { return &gate{permits: make(chan struct{}, 1000)} }

func (g *gate) open() { close(g.permits) }

func (g *gate) Write(p []byte) (int, error) {
	<-g.permits
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return 0, g.err
	}
	return g.buf.Write(p)
}

func (g *gate) bytes() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return bytes.Clone(g.buf.Bytes())
}

func TestOutputKeepsOrder(t *testing.T) {
	t.Parallel()
	var want []byte
	w := newGate()
	w.open()
	o := newOutput(w, true)
	for i := range 5000 {
		part := bytes.Repeat([]byte{byte(i)}, i%50)
		want = append(want, part...)
		for done := uint64(0); done < uint64(len(part)); {
			done += o.write([][]byte{part[:len(part)/2], part[len(part)/2:]}, done)
		}
	}
	o.wait()
	assert.Equal(t, want, w.bytes())
	taken, lost, dropped := o.counts()
	assert.EqualValues(t, len(want), taken)
	assert.Zero(t, lost+dropped)
}

func TestOutputOfAStuckWriterIsDroppedAfterPatience(t *testing.T) {
	t.Parallel()
	w := newGate()
	o := newOutput(w, true)
	progress := make(chan struct{}, 10)
	o.notify(func() { progress <- struct{}{} })
	big := bytes.Repeat([]byte("x"), 3*maxBacklog)
	assert.EqualValues(t, 1, o.write([][]byte{big[:1]}, 0))
	require.Eventually(t, func() bool { o.mu.Lock(); defer o.mu.Unlock(); return len(o.buf) == 0 }, time.Minute, time.Millisecond)
	n := o.write([][]byte{big}, 0)
	assert.EqualValues(t, maxBacklog, n)
	start := time.Now()
	<-progress
	assert.GreaterOrEqual(t, time.Since(start), patience*3/4)
	n += o.write([][]byte{big}, n)
	assert.EqualValues(t, len(big), n, "the rest is dropped")
	assert.EqualValues(t, 1000, o.write([][]byte{big[:1000]}, 0), "and so is what comes after it, without delay")
	_, _, dropped := o.counts()
	assert.EqualValues(t, 2*maxBacklog+1000, dropped)
	w.open()
	o.wait()
	assert.Len(t, w.bytes(), maxBacklog+1)
	assert.EqualValues(t, 5, o.write([][]byte{[]byte("again")}, 0), "it recovers")
	o.wait()
	assert.True(t, bytes.HasSuffix(w.bytes(), []byte("again")))
}

func TestOutputThatIsNotLossyWaits(t *testing.T) {
	t.Parallel()
	w := newGate()
	o := newOutput(w, false)
	progress := make(chan struct{}, 10)
	o.notify(func() { progress <- struct{}{} })
	big := bytes.Repeat([]byte("0123456789abcdef"), maxBacklog/4)
	done := uint64(0)
	for done < uint64(len(big)) {
		n := o.write([][]byte{big}, done)
		if done += n; done < uint64(len(big)) {
			select {
			case <-progress:
			case <-time.After(2 * patience):
				w.permits <- struct{}{}
				<-progress
			}
		}
	}
	w.open()
	o.wait()
	assert.Equal(t, big, w.bytes())
	_, lost, dropped := o.counts()
	assert.Zero(t, lost+dropped)
}

func TestOutputFails(t *testing.T) {
	t.Parallel()
	for _, lossy := range []bool{true, false} {
		w := newGate()
		w.err = errors.New("disk full")
		w.open()
		o := newOutput(w, lossy)
		o.write([][]byte{[]byte("abc")}, 0)
		o.wait()
		_, lost, _ := o.counts()
		assert.EqualValues(t, 3, lost)
		assert.Equal(t, !lossy, o.hasFailed())
		w.mu.Lock()
		w.err = nil
		w.mu.Unlock()
		assert.EqualValues(t, 3, o.write([][]byte{[]byte("def")}, 0))
		o.wait()
		if lossy {
			assert.Equal(t, "def", string(w.bytes()), "a console goes on")
		} else {
			_, _, dropped := o.counts()
			assert.EqualValues(t, 3, dropped)
			assert.Empty(t, w.bytes())
		}
	}
}

func TestOutputFinishIsBounded(t *testing.T) {
	t.Parallel()
	w := newGate()
	o := newOutput(w, false)
	huge := make([]byte, 10*maxBacklog)
	o.finish([][]byte{huge, huge}, 7)
	w.open()
	o.wait()
	taken, _, dropped := o.counts()
	assert.LessOrEqual(t, taken, uint64(2*maxBacklog))
	assert.EqualValues(t, 20*maxBacklog-7, taken+dropped)
}

func TestOutputWaitHasAnEnd(t *testing.T) {
	t.Parallel()
	w := newGate()
	o := newOutput(w, true)
	o.write([][]byte{[]byte("abc")}, 0)
	start := time.Now()
	o.wait()
	assert.GreaterOrEqual(t, time.Since(start), grace*3/4)
	w.open()
	o.wait()
}

func TestOutputDoesNotAllocate(t *testing.T) {
	w := newGate()
	w.open()
	o := newOutput(discard{}, true)
	parts := [][]byte{make([]byte, 100)}
	for range 1000 {
		o.write(parts, 0)
	}
	assert.Less(t, testing.AllocsPerRun(2000, func() {
		o.write(parts, 0)
	}), 0.1)
	o.wait()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestInputReadsAheadOneChunk(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	in := newInput(r)
	assert.Empty(t, in.peek())
	arrived := make(chan struct{}, 10)
	in.start(func() { arrived <- struct{}{} })
	in.start(func() { arrived <- struct{}{} })
	go func() {
		_, _ = w.Write([]byte("hello"))
		_, _ = w.Write([]byte("world"))
		_ = w.Close()
	}()
	<-arrived
	assert.Equal(t, "hello", string(in.peek()))
	in.take(2)
	assert.Equal(t, "llo", string(in.peek()))
	select {
	case <-arrived:
		assert.Fail(t, "read ahead")
	case <-time.After(20 * time.Millisecond):
	}
	in.take(3)
	<-arrived
	assert.Equal(t, "world", string(in.peek()))
	in.take(5)
	in.close()
	in.close()
	in.start(func() {})
}

func TestInputCloseEndsARead(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	defer w.Close()
	in := newInput(r)
	in.start(func() {})
	start := time.Now()
	in.close()
	assert.Less(t, time.Since(start), grace/2)

	// A reader that cannot be closed holds Close up, but not for ever.
	r, w = io.Pipe()
	in = newInput(struct{ io.Reader }{r})
	in.start(func() {})
	in.close()
	require.NoError(t, w.Close())
	in.close()
}
