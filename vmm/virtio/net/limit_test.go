package net

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := bucket{size: 1000, refill: time.Second, burst: 500}
	b.take(now, 400)
	assert.Zero(t, b.wait(now))
	assert.True(t, b.full.IsZero(), "the burst comes first")
	b.take(now, 600)
	assert.Zero(t, b.wait(now), "500 of 1000 are left")
	b.take(now, 2500)
	assert.Equal(t, 2*time.Second, b.wait(now), "a large one passes, and is paid off")
	now = now.Add(2*time.Second + 100*time.Millisecond)
	assert.Zero(t, b.wait(now))
	b.take(now, 100)
	assert.Zero(t, b.wait(now))
	b.take(now, 1)
	assert.Equal(t, time.Millisecond, b.wait(now))
	now = now.Add(time.Hour)
	b.take(now, 1000)
	assert.Zero(t, b.wait(now), "no more than it holds")
	b.take(now, 1)
	assert.Equal(t, time.Millisecond, b.wait(now))
	none := bucket{}
	none.take(now, 1<<40)
	assert.Zero(t, none.wait(now))
}

func TestLimitIsChecked(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]*Limit{
		"nothing":   {},
		"size 0":    {Ops: &Bucket{Refill: time.Second}},
		"refill 0":  {Bandwidth: &Bucket{Size: 1}},
		"too slow":  {Bandwidth: &Bucket{Size: 1, Refill: MaxRefill + 1}},
		"backwards": {Bandwidth: &Bucket{Size: 1, Refill: -1}},
	} {
		_, err := New(Config{MAC: mac, Backend: &cable{}, Egress: l})
		assert.ErrorIs(t, err, ErrConfig, name)
		_, err = New(Config{MAC: mac, Backend: &cable{}, Ingress: l})
		assert.ErrorIs(t, err, ErrConfig, name)
	}
}

// TestLimits: what is too much waits, in both directions, and nothing is lost.
func TestLimits(t *testing.T) {
	t.Parallel()
	const frames, atOnce = 12, 4
	tick := 20 * time.Millisecond
	limit := &Limit{Ops: &Bucket{Size: atOnce, Refill: atOnce * tick}, Bandwidth: &Bucket{Size: 1 << 40, Refill: time.Second}}
	c := &cable{}
	d, err := New(Config{MAC: mac, Backend: c, Egress: limit, Ingress: limit})
	require.NoError(t, err)
	c.dev = d
	g := &guest{t: t, Device: d, cable: c, Driver: virtiotest.Start(t, d, virtiotest.Config{}), slots: map[uint16]uint64{}, size: 2048}
	g.post(frames)
	start := time.Now()
	for i := range frames {
		frame := pattern(100)
		frame[0] = byte(i)
		c.queue(frame)
	}
	for i := range frames {
		_, got := g.receive()
		require.Equal(t, byte(i), got[0])
	}
	// The first ones pass at once, and one at the end of each tick after that.
	assert.GreaterOrEqual(t, time.Since(start), (frames-atOnce-1)*tick)
	start = time.Now()
	for range frames {
		g.send([headerSize]byte{}, pattern(60))
	}
	assert.Equal(t, frames, c.count())
	assert.GreaterOrEqual(t, time.Since(start), (frames-atOnce-1)*tick)
	d.Reset()
}
