package vmm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHeldProcessors: those beyond the first ones count as there, whatever the machine is
// made to do, but do not run.
func TestHeldProcessors(t *testing.T) {
	c := config(counts, 1)
	c.MaxVCPUs = 3
	m := build(t, c)
	m.interval = time.Millisecond
	assert.Equal(t, 3, m.Possible())
	assert.Equal(t, 1, m.Allowed())
	require.NoError(t, m.Start())
	for _, n := range []int{3, 2, 1, 3, 3, 1} {
		require.NoError(t, m.Allow(n))
		assert.Equal(t, n, m.Allowed())
		require.NoError(t, m.Pause())
		_, err := m.SaveState()
		require.NoError(t, err)
		require.NoError(t, m.Resume())
		before := counter(t, m)
		require.Eventually(t, func() bool { return counter(t, m) > before }, patience, time.Millisecond, "the guest goes on")
	}
	for _, n := range []int{-1, 0, 4} {
		assert.ErrorIs(t, m.Allow(n), ErrConfig)
	}
	m.Stop()
	assert.Equal(t, Stopped, wait(t, m).Kind)
}

func TestRestoredProcessorsAreHeldIfTheySleep(t *testing.T) {
	c := config(counts, 1)
	c.MaxVCPUs = 2
	m := build(t, c)
	require.NoError(t, m.Start())
	require.NoError(t, m.Allow(2)) // and yet nobody starts it
	require.NoError(t, m.Pause())
	state, err := m.SaveState()
	require.NoError(t, err)
	fork := build(t, c)
	require.NoError(t, fork.RestoreState(state))
	assert.Equal(t, 1, fork.Allowed())
}

// TestHaltWithHeldProcessors: what may not run does not keep a machine alive.
func TestHaltWithHeldProcessors(t *testing.T) {
	c := config(halts, 1)
	c.MaxVCPUs = 3
	m := build(t, c)
	m.interval = 10 * time.Millisecond
	require.NoError(t, m.Start())
	assert.Equal(t, Result{Kind: Halt, VCPU: -1}, wait(t, m))
}

func TestMaxVCPUs(t *testing.T) {
	for _, n := range []int{-1, 1, MaxVCPUs + 1} {
		c := config(halts, 2)
		c.MaxVCPUs = n
		assert.ErrorIs(t, c.Validate(), ErrConfig)
	}
}
