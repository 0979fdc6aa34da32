package net

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// newPatientGuest starts a device whose guest waits so long.
func newPatientGuest(t *testing.T, patience time.Duration) *guest {
	t.Helper()
	d, c := newDevice(t)
	d.patience = patience
	return &guest{t: t, Device: d, cable: c, Driver: virtiotest.Start(t, d, virtiotest.Config{}), slots: map[uint16]uint64{}, size: 2048}
}

// sendAll sends frames, and waits until the guest has them back. It wants to be told of the
// first.
func (g *guest) sendAll(sizes ...int) {
	g.t.Helper()
	q := g.Queues[transmitQueue]
	q.SetUsedEvent(q.Seen)
	for _, size := range sizes {
		g.Queues[transmitQueue].Do(virtiotest.Buffer{Addr: sendArea, Len: uint32(headerSize + size)})
	}
}

func repeat(size, n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = size
	}
	return all
}

// TestSmallFramesDoNotInterrupt: what an answer will tell the guest needs no telling.
func TestSmallFramesDoNotInterrupt(t *testing.T) {
	t.Parallel()
	g := newPatientGuest(t, time.Hour)
	g.post(1)
	g.sendAll(repeat(60, fewFrames)...)
	g.IRQ.Quiet(t, quiet)
	g.cable.queue(pattern(60))
	g.IRQ.Wait(t)
	_, got := g.receive()
	assert.Equal(t, pattern(60), got)
	assert.EqualValues(t, 1, g.IRQ.Count())
}

func TestManyFramesInterrupt(t *testing.T) {
	t.Parallel()
	g := newPatientGuest(t, time.Hour)
	g.sendAll(repeat(60, fewFrames+1)...)
	g.IRQ.Wait(t)
	g.sendAll(repeat(60, fewFrames)...)
	g.IRQ.Quiet(t, quiet)
}

func TestLargeFramesInterrupt(t *testing.T) {
	t.Parallel()
	g := newPatientGuest(t, time.Hour)
	g.sendAll(60, smallFrame-headerSize)
	g.IRQ.Quiet(t, quiet)
	g.sendAll(smallFrame - headerSize + 1)
	g.IRQ.Wait(t)
	g.sendAll(60)
	g.IRQ.Quiet(t, quiet)
}

// TestGuestIsToldInTheEnd: nothing else may come for long.
func TestGuestIsToldInTheEnd(t *testing.T) {
	t.Parallel()
	g := newPatientGuest(t, time.Millisecond)
	for range 3 {
		g.sendAll(60)
		g.IRQ.Wait(t)
	}
	assert.EqualValues(t, 3, g.IRQ.Count())
}

// TestGuestThatLookedIsNotTold: an answer was there meanwhile.
func TestGuestThatLookedIsNotTold(t *testing.T) {
	t.Parallel()
	g := newPatientGuest(t, time.Millisecond)
	q := g.Queues[transmitQueue]
	q.SetUsedEvent(q.Seen + 1)
	q.Do(virtiotest.Buffer{Addr: sendArea, Len: headerSize + 60})
	g.IRQ.Quiet(t, quiet)
	g.sendAll(60)
	g.IRQ.Wait(t)
}

// TestPauseTells: a copy of the guest would not be told.
func TestPauseTells(t *testing.T) {
	t.Parallel()
	g := newPatientGuest(t, time.Hour)
	g.sendAll(60)
	g.IRQ.Quiet(t, quiet)
	g.MMIO.Pause()
	require.EqualValues(t, 1, g.IRQ.Count())
	g.MMIO.Resume()
	g.IRQ.Wait(t)
	g.IRQ.Quiet(t, quiet)
}
