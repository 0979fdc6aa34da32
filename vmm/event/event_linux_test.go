package event

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// waits are the two ways to wait.
func waits(e *Event) map[string]func() error {
	return map[string]func() error{"wait": e.Wait, "block": e.Block}
}

func TestSignalWakes(t *testing.T) {
	t.Parallel()
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	for name, wait := range waits(e) {
		require.NoError(t, e.Signal())
		require.NoError(t, e.Signal())
		require.NoError(t, wait(), "two signals before the wait are one wake-up: %s", name)
		woken := make(chan error, 1)
		go func() { woken <- wait() }()
		select {
		case <-woken:
			t.Fatal("woken without a signal: the count was not reset: " + name)
		case <-time.After(30 * time.Millisecond):
		}
		require.NoError(t, e.Signal())
		require.NoError(t, <-woken)
	}
}

func TestCloseEndsWaits(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"wait", "block"} {
		e, err := New()
		require.NoError(t, err)
		wait := waits(e)[name]
		woken := make(chan error, 1)
		go func() { woken <- wait() }()
		time.Sleep(10 * time.Millisecond)
		require.NoError(t, e.Close())
		assert.ErrorIs(t, <-woken, os.ErrClosed, name)
		assert.ErrorIs(t, wait(), os.ErrClosed, name)
		assert.NoError(t, e.Close())
	}
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
		_ = e.Wait()
		_ = e.Signal()
		_ = e.Block()
	}))
}
