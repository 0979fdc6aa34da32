package mem

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// FuzzMemoryRequests sends any requests. Each is answered, the sizes always agree with the
// set of blocks, no more than the target is plugged, and RAM keeps what it held.
func FuzzMemoryRequests(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 32, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		const keep = requestArea + 0x10000
		g := newGuest(t, regionBlocks/2)
		g.Bytes(keep, 1)[0] = 0x5a
		for n := 0; len(b) > 0 && n < 20; n++ {
			size := min(len(b), requestSize)
			g.Write(requestArea, b[:size])
			b = b[size:]
			g.Queues[0].Do(virtiotest.Buffer{Addr: requestArea, Len: uint32(size)}, virtiotest.Buffer{Addr: answerArea, Len: answerSize, Write: true})
			kind := g.Bytes(answerArea, 1)[0]
			require.LessOrEqual(t, kind, byte(answerError))
			require.NotEqual(t, byte(answerBusy), kind)
			sum := uint64(0)
			for _, r := range g.dev.Plugged() {
				require.True(t, r.Base >= regionBase && r.Base+r.Size <= regionBase+regionSize)
				sum += r.Size
			}
			require.Equal(t, sum, g.dev.Sizes().Plugged)
			require.LessOrEqual(t, sum, g.dev.Sizes().Target)
		}
		require.False(t, g.NeedsReset())
		require.EqualValues(t, 0x5a, g.Bytes(keep, 1)[0])
	})
}

// FuzzMemoryState restores any state, or says that it is none.
func FuzzMemoryState(f *testing.F) {
	g := newGuest(f, 9)
	state, err := g.dev.SaveState()
	require.NoError(f, err)
	f.Add(state)
	f.Add(state[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		dev := newDevice(t)
		if dev.RestoreState(b) != nil {
			require.Equal(t, Sizes{Region: regionSize}, dev.Sizes())
			return
		}
		again, err := dev.SaveState()
		require.NoError(t, err)
		require.Equal(t, b, again)
		require.LessOrEqual(t, dev.Sizes().Plugged, uint64(regionSize))
	})
}
