//go:build linux

package serve

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testInbox(each int, limit int64, stall time.Duration) (*inbox, *budget) {
	b := &budget{each: each, limit: limit, stall: stall, waits: func(bool) {}}
	return newInbox(b), b
}

func TestInboxOrderAndEnd(t *testing.T) {
	t.Parallel()
	q, b := testInbox(100, 100, time.Minute)
	require.NoError(t, q.put([]byte("a")))
	require.NoError(t, q.put([]byte("bc")))
	q.end()
	require.NoError(t, q.put([]byte("late")), "swallowed")
	for _, want := range []string{"a", "bc"} {
		p, ok := q.take()
		require.True(t, ok)
		assert.Equal(t, want, string(p))
	}
	for range 2 {
		p, ok := q.take()
		assert.True(t, ok)
		assert.Nil(t, p)
	}
	assert.Zero(t, b.used.Load())
}

func TestInboxWaitsForRoom(t *testing.T) {
	t.Parallel()
	q, b := testInbox(10, 1000, time.Minute)
	require.NoError(t, q.put(make([]byte, 50)), "one always fits")
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 100 {
			assert.NoError(t, q.put(make([]byte, 5)))
		}
		q.end()
	})
	total := 0
	for {
		p, ok := q.take()
		require.True(t, ok)
		if p == nil {
			break
		}
		total += len(p)
		assert.LessOrEqual(t, b.used.Load(), int64(50))
	}
	wg.Wait()
	assert.Equal(t, 550, total)
}

func TestInboxStalls(t *testing.T) {
	t.Parallel()
	q, b := testInbox(10, 1000, 20*time.Millisecond)
	require.NoError(t, q.put(make([]byte, 8)))
	require.ErrorIs(t, q.put(make([]byte, 8)), errStalled)
	require.NoError(t, q.put(make([]byte, 8)), "given up")
	_, ok := q.take()
	assert.False(t, ok)
	assert.Zero(t, b.used.Load())
}

// A slow consumer is not a stalled one.
func TestInboxSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, _ := testInbox(10, 1000, 300*time.Millisecond)
		for range 10 {
			require.NoError(t, q.put([]byte{0}))
		}
		go func() {
			for range 10 {
				time.Sleep(60 * time.Millisecond)
				q.take()
			}
		}()
		begin := time.Now()
		require.NoError(t, q.put(make([]byte, 10)), "it took longer than the limit, but there was progress")
		assert.Equal(t, 600*time.Millisecond, time.Since(begin))
	})
}

// The shared budget holds everybody to it, but nobody waits for others to take.
func TestInboxBudget(t *testing.T) {
	t.Parallel()
	q, b := testInbox(100, 10, 20*time.Millisecond)
	other := newInbox(b)
	require.NoError(t, q.put(make([]byte, 10)))
	require.NoError(t, other.put(make([]byte, 10)), "its first")
	require.ErrorIs(t, other.put([]byte{0}), errStalled)
	assert.EqualValues(t, 10, b.used.Load())
	q.close()
	q.close()
	assert.Zero(t, b.used.Load())
}

func TestInboxCloseWakes(t *testing.T) {
	t.Parallel()
	q, _ := testInbox(1, 1, time.Minute)
	require.NoError(t, q.put([]byte("xx")))
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, q.put([]byte("y"))) })
	time.Sleep(10 * time.Millisecond)
	q.close()
	wg.Wait()
	p, _ := testInbox(1, 1, time.Minute)
	wg.Go(func() {
		_, ok := p.take()
		assert.False(t, ok)
	})
	time.Sleep(10 * time.Millisecond)
	p.close()
	wg.Wait()
}
