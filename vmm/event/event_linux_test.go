package event

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSignalWakes(t *testing.T) {
	t.Parallel()
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	require.NoError(t, e.Signal())
	require.NoError(t, e.Signal())
	require.NoError(t, e.Block(), "two signals before the wait are one wake-up")
	woken := make(chan error, 1)
	go func() { woken <- e.Block() }()
	select {
	case <-woken:
		t.Fatal("woken without a signal: the count was not reset")
	case <-time.After(30 * time.Millisecond):
	}
	require.NoError(t, e.Signal())
	require.NoError(t, <-woken)
}

// serve runs Serve with a function that says when it runs; begun is how often it has begun to.
func serve(e *Event) (runs chan int, over chan error, begun *atomic.Int32) {
	runs, over, begun = make(chan int), make(chan error, 1), new(atomic.Int32)
	go func() {
		over <- e.Serve(func() bool {
			n := int(begun.Add(1))
			runs <- n
			return n == 5
		})
	}()
	return runs, over, begun
}

func TestServe(t *testing.T) {
	t.Parallel()
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	runs, over, begun := serve(e)
	idle := func() {
		t.Helper()
		select {
		case n := <-runs:
			t.Fatal("runs without a signal", n)
		case <-time.After(30 * time.Millisecond):
		}
	}
	assert.Equal(t, 1, <-runs, "without a signal")
	idle()
	require.NoError(t, e.Signal())
	assert.Equal(t, 2, <-runs)
	idle()
	require.NoError(t, e.Signal(), "the count is not zero, and yet it is a signal")
	assert.Equal(t, 3, <-runs)
	require.NoError(t, e.Signal())
	require.Eventually(t, func() bool { return begun.Load() == 4 }, time.Minute, time.Millisecond)
	require.NoError(t, e.Signal(), "while the function runs")
	assert.Equal(t, 4, <-runs)
	assert.Equal(t, 5, <-runs)
	require.NoError(t, <-over)
	require.NoError(t, e.Block(), "what Serve was told can still be waited for")
}

// No signal is lost, whenever it comes.
func TestServeMissesNothing(t *testing.T) {
	t.Parallel()
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	const all = 20000
	var asked atomic.Int64
	answered := make(chan int64, 1)
	over := make(chan error, 1)
	go func() {
		over <- e.Serve(func() bool {
			n := asked.Load()
			select {
			case <-answered: // of which nobody has heard
			default:
			}
			answered <- n
			return n == all
		})
	}()
	for n := int64(1); n <= all; n++ {
		asked.Store(n)
		require.NoError(t, e.Signal())
		for got := int64(0); got < n; {
			select {
			case got = <-answered:
			case <-time.After(30 * time.Second):
				t.Fatal("a signal was lost", n)
			}
		}
	}
	require.NoError(t, <-over)
}

func TestCloseEndsServe(t *testing.T) {
	t.Parallel()
	e, err := New()
	require.NoError(t, err)
	runs, over, _ := serve(e)
	<-runs
	require.NoError(t, e.Close())
	require.ErrorIs(t, <-over, os.ErrClosed)
	require.ErrorIs(t, e.Serve(func() bool { t.Error("it is closed"); return true }), os.ErrClosed)
}

func TestCloseEndsBlock(t *testing.T) {
	t.Parallel()
	e, err := New()
	require.NoError(t, err)
	woken := make(chan error, 1)
	go func() { woken <- e.Block() }()
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, e.Close())
	require.ErrorIs(t, <-woken, os.ErrClosed)
	require.ErrorIs(t, e.Block(), os.ErrClosed)
	require.NoError(t, e.Close())
}

// A signal from another goroutine that comes at the same time as Close is not lost and
// does not keep anybody.
func TestCloseMeetsSignals(t *testing.T) {
	t.Parallel()
	for range 200 {
		e, err := New()
		require.NoError(t, err)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for e.Block() == nil {
			}
		}()
		go func() {
			for e.Signal() == nil {
			}
		}()
		require.NoError(t, e.Close())
		<-ended
	}
}

func TestNothingAllocates(t *testing.T) {
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	assert.Zero(t, testing.AllocsPerRun(200, func() {
		_ = e.Signal()
		_ = e.Block()
	}))
}

func TestNoWakeUpAllocates(t *testing.T) {
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	var last atomic.Bool
	answered, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- e.Serve(func() bool {
			over := last.Load()
			answered <- struct{}{}
			return over
		})
	}()
	<-answered
	assert.Zero(t, testing.AllocsPerRun(200, func() {
		_ = e.Signal()
		<-answered
	}))
	last.Store(true)
	require.NoError(t, e.Signal())
	<-answered
	require.NoError(t, <-over)
}
