package virtiotest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Line is an interrupt line that counts. It is a virtio.Interrupt.
type Line struct {
	count  atomic.Uint64
	raised chan struct{} // capacity 1
}

func newLine() *Line { return &Line{raised: make(chan struct{}, 1)} }

// Signal raises the line.
func (l *Line) Signal() error {
	l.count.Add(1)
	select {
	case l.raised <- struct{}{}:
	default:
	}
	return nil
}

// Count is how many times the line was raised.
func (l *Line) Count() uint64 { return l.count.Load() }

// Sleep waits until the line was raised since the last Sleep.
func (l *Line) Sleep() { <-l.raised }

// Wait is Sleep, but fails the test if that takes too long.
func (l *Line) Wait(t testing.TB) {
	t.Helper()
	select {
	case <-l.raised:
	case <-time.After(watchdog):
		require.Fail(t, "no interrupt")
	}
}

// Quiet checks that the line is not raised for d.
func (l *Line) Quiet(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-l.raised:
		require.Fail(t, "an interrupt that nobody asked for")
	case <-time.After(d):
	}
}
