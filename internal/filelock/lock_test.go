package filelock

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLocks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	first, second := open(), open()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, Wait(over, first), "what is free needs no wait")
	locked, err := Try(first)
	require.NoError(t, err)
	assert.True(t, locked, "it is ours")
	locked, err = Try(second)
	require.NoError(t, err)
	assert.False(t, locked)
	err = Wait(over, second)
	require.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, path)

	waited := make(chan error, 1)
	go func() { waited <- Wait(t.Context(), second) }()
	select {
	case <-waited:
		t.Fatal("two have the lock")
	case <-time.After(3 * lastWait):
	}
	require.NoError(t, first.Close())
	require.NoError(t, <-waited)

	require.NoError(t, second.Close())
	_, err = Try(second)
	assert.Error(t, err)
	assert.Error(t, Wait(t.Context(), second))
}
