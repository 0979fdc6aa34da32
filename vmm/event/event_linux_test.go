package event

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSignalWakesWait(t *testing.T) {
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	require.NoError(t, e.Signal())
	require.NoError(t, e.Signal())
	require.NoError(t, e.Wait(), "two signals before the wait are one wake-up")
	woken := make(chan error, 1)
	go func() { woken <- e.Wait() }()
	select {
	case <-woken:
		t.Fatal("woken without a signal: the count was not reset")
	case <-time.After(30 * time.Millisecond):
	}
	require.NoError(t, e.Signal())
	require.NoError(t, <-woken)
}

func TestCloseEndsWait(t *testing.T) {
	e, err := New()
	require.NoError(t, err)
	woken := make(chan error, 1)
	go func() { woken <- e.Wait() }()
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, e.Close())
	assert.ErrorIs(t, <-woken, os.ErrClosed)
	assert.ErrorIs(t, e.Wait(), os.ErrClosed)
	assert.NoError(t, e.Close())
}

func TestNothingAllocates(t *testing.T) {
	e, err := New()
	require.NoError(t, err)
	defer e.Close()
	assert.Zero(t, testing.AllocsPerRun(200, func() {
		_ = e.Signal()
		_ = e.Wait()
	}))
}
