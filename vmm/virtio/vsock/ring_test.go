package vsock

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRingIsAQueue(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	var spares pool
	var q ring
	var model bytes.Buffer
	for range 3000 {
		n := r.IntN(min(20000, bufferSize-q.size+1))
		text := make([]byte, n+7)
		for i := range text {
			text[i] = byte(r.Uint32())
		}
		cut := r.IntN(len(text) + 1)
		q.write([][]byte{text[:cut], nil, text[cut:]}, 7, n, &spares)
		model.Write(text[7:])
		got := make([]byte, r.IntN(25000))
		m := q.read(got)
		want := model.Next(len(got))
		require.Equal(t, len(want), m)
		require.True(t, bytes.Equal(want, got[:m]))
		require.Equal(t, model.Len(), q.size)
		require.LessOrEqual(t, len(q.buf), bufferSize)
		if r.IntN(20) == 0 {
			model.Next(q.read(make([]byte, bufferSize)))
			q.idle(&spares)
			require.LessOrEqual(t, len(q.buf), minRing, "an idle ring is small")
		}
	}
}

func TestRingHoldsTheWholeCredit(t *testing.T) {
	t.Parallel()
	var spares pool
	var q ring
	q.write([][]byte{make([]byte, bufferSize)}, 0, bufferSize, &spares)
	assert.Len(t, q.buf, bufferSize)
	q.release(&spares)
	assert.Zero(t, q.buf)
	assert.Equal(t, 1, spares.n)
	q.write([][]byte{make([]byte, minRing)}, 0, minRing, &spares)
	assert.Len(t, q.buf, minRing)
	q.write([][]byte{make([]byte, 1)}, 0, 1, &spares)
	assert.Len(t, q.buf, bufferSize)
	for range 2 * maxSpares {
		spares.put(make([]byte, bufferSize))
	}
	assert.Equal(t, maxSpares, spares.n, "spares are bounded")
}
