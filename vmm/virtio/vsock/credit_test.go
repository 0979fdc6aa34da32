package vsock

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCreditBoundsTheGuest(t *testing.T) {
	t.Parallel()
	for _, start := range []uint32{0, 1<<32 - 1, 1<<32 - bufferSize/2} {
		c := credit{received: start, forwarded: start, told: start}
		require.True(t, c.accept(bufferSize), "start %d", start)
		require.False(t, c.accept(1))
		require.False(t, c.accept(1<<32-1), "the sum must not wrap")
		require.False(t, c.stale())
		c.take(bufferSize/4 - 1)
		require.False(t, c.stale())
		c.take(1)
		require.True(t, c.stale())
		var h header
		c.stamp(&h)
		assert.Equal(t, uint32(bufferSize), h.alloc)
		assert.Equal(t, start+bufferSize/4, h.forwarded)
		require.False(t, c.stale())
		require.True(t, c.accept(bufferSize/4))
		require.False(t, c.accept(1))
	}
}

func TestCreditBoundsTheHost(t *testing.T) {
	t.Parallel()
	for _, start := range []uint32{0, 1<<32 - 1, 1<<32 - 100, 1 << 31} {
		c := credit{sent: start, peerForwarded: start}
		require.NoError(t, c.learn(&header{alloc: 1000, forwarded: start}))
		require.Equal(t, uint32(1000), c.available())
		c.spend(600)
		require.Equal(t, uint32(400), c.available())
		require.NoError(t, c.learn(&header{alloc: 1000, forwarded: start + 500}))
		require.Equal(t, uint32(900), c.available())
		require.NoError(t, c.learn(&header{alloc: 1000, forwarded: start + 200}), "an old packet")
		require.Equal(t, uint32(900), c.available(), "does not take credit back")
		require.NoError(t, c.learn(&header{alloc: 50, forwarded: start + 500}))
		require.Zero(t, c.available(), "the guest shrank its buffer below what is in flight")
		require.NoError(t, c.learn(&header{alloc: 0, forwarded: start + 600}))
		require.Zero(t, c.available())
		err := c.learn(&header{alloc: 1000, forwarded: start + 601})
		require.ErrorIs(t, err, ErrProtocol, "a byte that was never sent")
	}
}

// TestCreditNeverExceedsTheGuestsBuffer plays both sides over many wraps, with the
// guest's headers arriving out of order now and then.
func TestCreditNeverExceedsTheGuestsBuffer(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	const alloc = 1 << 30
	c := credit{sent: 1<<32 - 7, peerForwarded: 1<<32 - 7}
	buffered, forwarded, old := uint64(0), c.sent, c.sent
	for range 10000 {
		header := header{alloc: alloc, forwarded: forwarded}
		if r.IntN(4) == 0 {
			header.forwarded = old
		}
		require.NoError(t, c.learn(&header))
		n := uint32(r.Uint64N(uint64(c.available()) + 1))
		c.spend(n)
		buffered += uint64(n)
		require.LessOrEqual(t, buffered, uint64(alloc))
		read := r.Uint64N(buffered + 1)
		buffered -= read
		old, forwarded = forwarded, forwarded+uint32(read)
	}
}

func TestErrorsAreThoseOfSockets(t *testing.T) {
	t.Parallel()
	assert.EqualError(t, ErrReset, "vsock: connection reset by peer")
	assert.EqualError(t, ErrRefused, "vsock: connection refused")
	assert.False(t, errors.Is(ErrReset, ErrRefused))
	assert.Equal(t, "3:1024", Addr{CID: 3, Port: 1024}.String())
	assert.Equal(t, "vsock", Addr{}.Network())
}
