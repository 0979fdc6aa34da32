package net

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const quiet = 20 * time.Millisecond

func TestPauseHoldsEverything(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 2048, virtiotest.Config{})
	g.post(4)
	g.MMIO.Pause()
	before := slices.Clone(g.Bytes(receiveArea, 1<<20))
	g.cable.queue(pattern(60))
	g.Write(sendArea, make([]byte, 100))
	g.Queues[transmitQueue].Add(virtiotest.Buffer{Addr: sendArea, Len: 100})
	g.Queues[transmitQueue].Notify()
	time.Sleep(quiet)
	assert.Zero(t, g.cable.count())
	assert.Equal(t, before, g.Bytes(receiveArea, 1<<20))
	g.MMIO.Resume()
	_, got := g.receive()
	assert.Equal(t, pattern(60), got)
	g.Queues[transmitQueue].Wait()
	assert.Equal(t, 1, g.cable.count())
}

// TestPauseGivesBackWhatIsHeld: a copy of the guest must not miss a buffer.
func TestPauseGivesBackWhatIsHeld(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 600, virtiotest.Config{})
	g.post(1)
	g.cable.queue(pattern(1000)) // fills more than there is
	g.Eventually(func() bool {
		g.rx.mu.Lock()
		defer g.rx.mu.Unlock()
		return g.rx.count == 1
	}, "the device holds a buffer")
	g.MMIO.Pause()
	s := g.Save()
	g.MMIO.Resume()

	d, c := newDevice(t)
	other := &guest{t: t, Device: d, cable: c, Driver: virtiotest.Restore(t, d, virtiotest.Config{}, s), slots: g.slots, size: 600}
	for _, x := range []*guest{other, g} {
		assert.Zero(t, x.Queues[receiveQueue].Wait().Len, "the buffer comes back empty")
		if x == other {
			c.queue(pattern(1000))
		}
		x.post(2)
		_, got := x.receive()
		assert.Equal(t, pattern(1000), got)
		x.send([headerSize]byte{}, pattern(100))
	}
}

func TestStateIsChecked(t *testing.T) {
	t.Parallel()
	d, _ := newDevice(t)
	good, err := d.SaveState()
	require.NoError(t, err)
	assert.Equal(t, []byte{1, 0, 0, 0, 2, 0x6d, 0x73, 0, 1, 2}, good, "an old checkpoint must stay readable")
	require.NoError(t, d.RestoreState(good))
	for name, bad := range map[string][]byte{
		"empty": {}, "short": good[:9], "long": append(slices.Clone(good), 0),
		"version": append([]byte{2}, good[1:]...), "address": append(slices.Clone(good[:9]), 9),
	} {
		assert.ErrorIs(t, d.RestoreState(bad), virtio.ErrState, name)
	}
}

// TestLifecycleUnderLoad pauses, resumes and resets while frames go both ways.
func TestLifecycleUnderLoad(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 2048, virtiotest.Config{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			frame := [][]byte{pattern(1500)}
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !g.Deliver(Offload{}, frame) {
					time.Sleep(time.Millisecond)
				}
				g.Flush()
			}
		})
	}
	for range 20 {
		g.slots = map[uint16]uint64{}
		g.post(16)
		for range 16 {
			_, got := g.receive()
			require.Equal(t, pattern(1500), got)
			g.send([headerSize]byte{}, pattern(60))
		}
		g.MMIO.Pause()
		_, err := g.MMIO.SaveState()
		require.NoError(t, err)
		g.MMIO.Resume()
		g.Restart()
	}
	close(stop)
	wg.Wait()
	assert.False(t, g.NeedsReset())
}
