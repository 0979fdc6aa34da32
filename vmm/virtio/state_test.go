package virtio_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// fresh is a device as idle makes it.
func fresh() *virtiotest.Device {
	return &virtiotest.Device{Type: 42, Offer: 1<<3 | 1<<40, Sizes: []uint16{size, 64}, Space: []byte("abcdefgh"), State: []byte("state")}
}

func TestStateRoundTrip(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, d *virtiotest.Driver, dev *virtiotest.Device){
		"fresh":        func(*testing.T, *virtiotest.Driver, *virtiotest.Device) {},
		"acknowledged": func(_ *testing.T, d *virtiotest.Driver, _ *virtiotest.Device) { d.Store(virtiotest.RegStatus, ack) },
		"features being chosen": func(_ *testing.T, d *virtiotest.Driver, _ *virtiotest.Device) {
			d.Store(virtiotest.RegStatus, ack|driver)
			d.Accept(1<<3 | 1<<50)
		},
		"one queue ready": func(_ *testing.T, d *virtiotest.Driver, _ *virtiotest.Device) {
			d.Negotiate()
			d.LayOut()
			d.Queues[1].Program()
		},
		"running":            func(_ *testing.T, d *virtiotest.Driver, _ *virtiotest.Device) { d.Restart() },
		"running, one queue": func(_ *testing.T, d *virtiotest.Driver, _ *virtiotest.Device) { startFirst(d) },
		"the driver gave up": func(_ *testing.T, d *virtiotest.Driver, _ *virtiotest.Device) {
			d.Store(virtiotest.RegStatus, failed|3)
		},
		"selectors everywhere": func(_ *testing.T, d *virtiotest.Driver, _ *virtiotest.Device) {
			for _, reg := range []uint64{virtiotest.RegQueueSel, virtiotest.RegDriverFeatSel, virtiotest.RegDeviceFeatSel} {
				d.Store(reg, 0xffffffff)
			}
		},
		"needs a reset": func(t *testing.T, d *virtiotest.Driver, dev *virtiotest.Device) {
			d.Negotiate()
			d.LayOut()
			d.Queues[0].Used++
			d.Queues[0].Program()
			d.Store(virtiotest.RegStatus, virtiotest.Running)
			require.True(t, d.NeedsReset())
		},
		"requests in flight": func(t *testing.T, d *virtiotest.Driver, dev *virtiotest.Device) {
			d.Restart()
			for i, q := range dev.Active.Queues {
				for range 3 {
					d.Queues[i].Add(in(data, 1))
				}
				pop(t, q)
				require.NoError(t, q.Push(pop(t, q).Head, 5))
			}
			dev.Active.ConfigChanged()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := fresh()
			d := virtiotest.New(t, dev, virtiotest.Config{})
			prepare(t, d, dev)
			s := d.Save()
			other := fresh()
			other.State = nil
			c := virtiotest.Restore(t, other, virtiotest.Config{}, s)
			assert.Equal(t, s.State, snapshot(t, c))
			assert.Equal(t, "state", string(other.State))
			for reg := uint64(0); reg < registers; reg += 4 {
				assert.Equal(t, d.Load(reg), c.Load(reg), "register %#x", reg)
			}
			assert.Equal(t, dev.Activated > dev.Resets, other.Activated > 0)
			assert.Equal(t, d.Load(virtiotest.RegInterruptStatus) != 0, c.IRQ.Count() > 0, "an interrupt that nobody has seen yet")
			c.Restart()
			assert.NoError(t, c.MMIO.Failure())
		})
	}
}

// TestRestoredQueuesGoOn takes and returns chains, moves to another device in the middle
// of it, again and again, over the wrap-around of the indices.
func TestRestoredQueuesGoOn(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]virtiotest.Config{"events": {}, "flags": {Refuse: noEventIdx}, "indirect": {Indirect: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(6, 7))
			dev := fresh()
			d := virtiotest.Start(t, dev, cfg)
			var held []uint16
			for range 12 {
				q, host := d.Queues[0], dev.Active.Queues[0]
				for range 2000 + r.IntN(6000) {
					switch n := r.IntN(3); {
					case n == 0 && q.Free() > 0:
						q.Add(in(data, 1))
					case n == 1:
						var c virtio.Chain
						ok, err := host.Pop(&c)
						require.NoError(t, err)
						if ok {
							held = append(held, c.Head)
						}
					case n == 2 && len(held) > 0:
						i := r.IntN(len(held))
						require.NoError(t, host.Push(held[i], uint32(held[i])))
						held = slices.Delete(held, i, i+1)
						u, ok := q.Take()
						require.True(t, ok)
						require.EqualValues(t, u.Head, u.Len)
					}
				}
				if r.IntN(2) == 0 {
					host.DisableKicks()
				} else {
					_, err := host.EnableKicks()
					require.NoError(t, err)
				}
				kicks := q.Kick()
				s := d.Save()
				next := fresh()
				d, dev = virtiotest.Restore(t, next, cfg, s), next
				if cfg.Refuse == noEventIdx {
					assert.Equal(t, kicks, d.Queues[0].Kick(), "the flag is what it was")
				}
				require.Equal(t, s.State, snapshot(t, d))
			}
		})
	}
}

// TestLapIsSaved moves between a lap of the used ring and the Notify that tells of it.
func TestLapIsSaved(t *testing.T) {
	t.Parallel()
	d, q, dev := open(t, virtiotest.Config{})
	for range 1 << 16 {
		q.Add(in(data, 1))
		require.NoError(t, dev.Push(pop(t, dev).Head, 0))
		q.Take()
	}
	other := &virtiotest.Device{Type: 42, Sizes: []uint16{size}}
	c := virtiotest.Restore(t, other, virtiotest.Config{}, d.Save())
	require.NoError(t, other.Active.Queues[0].Notify())
	assert.EqualValues(t, 1, c.IRQ.Count())
}

// small has little memory to copy.
var small = virtiotest.Config{RAM: smallRAM}

// busy is the state of a device with requests in flight, and the machine around it.
func busy(t testing.TB) virtiotest.Snapshot {
	dev := fresh()
	d := virtiotest.Start(t, dev, small)
	for i, q := range dev.Active.Queues {
		for range 3 {
			d.Queues[i].Add(in(0x13000, 1))
		}
		pop(t, q)
		require.NoError(t, q.Push(pop(t, q).Head, 5))
	}
	return d.Save()
}

func TestTruncatedState(t *testing.T) {
	t.Parallel()
	s := busy(t)
	for n := range len(s.State) {
		d := virtiotest.New(t, fresh(), small)
		d.Adopt(s)
		require.ErrorIs(t, d.MMIO.RestoreState(s.State[:n]), virtio.ErrState, "%d bytes", n)
	}
	d := virtiotest.New(t, fresh(), small)
	d.Adopt(s)
	assert.ErrorIs(t, d.MMIO.RestoreState(append(slices.Clone(s.State), 0)), virtio.ErrState)
}

// TestFlippedState changes every bit: the result is an error, or a device that can be
// used and reset.
func TestFlippedState(t *testing.T) {
	t.Parallel()
	s := busy(t)
	refused := 0
	for bit := range 8 * len(s.State) {
		b := slices.Clone(s.State)
		b[bit/8] ^= 1 << (bit % 8)
		dev := fresh()
		d := virtiotest.New(t, dev, small)
		d.Adopt(s)
		if err := d.MMIO.RestoreState(b); err != nil {
			require.ErrorIs(t, err, virtio.ErrState, "bit %d", bit)
			refused++
			continue
		}
		use(t, d, dev)
		require.NoError(t, d.MMIO.Close()) // not all at the end
	}
	assert.Greater(t, refused, len(s.State), "most of it is checked")
}

// use takes and returns what a restored device offers and starts it afresh.
func use(t testing.TB, d *virtiotest.Driver, dev *virtiotest.Device) {
	for _, q := range dev.Active.Queues {
		if q == nil {
			continue
		}
		var c virtio.Chain
		for range 4 {
			if ok, err := q.Pop(&c); err != nil || !ok {
				break
			}
			require.NoError(t, q.Push(c.Head, 1))
		}
		require.NoError(t, q.Notify())
	}
	d.Restart()
	require.NoError(t, d.MMIO.Failure())
}

func TestStateOfAnotherDevice(t *testing.T) {
	t.Parallel()
	s := busy(t)
	for name, dev := range map[string]*virtiotest.Device{
		"type":          {Type: 43, Offer: 1<<3 | 1<<40, Sizes: []uint16{size, 64}},
		"queues":        {Type: 42, Offer: 1<<3 | 1<<40, Sizes: []uint16{size}},
		"smaller queue": {Type: 42, Offer: 1<<3 | 1<<40, Sizes: []uint16{size, 32}},
		"features":      {Type: 42, Offer: 1 << 3, Sizes: []uint16{size, 64}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := virtiotest.New(t, dev, small)
			d.Adopt(s)
			assert.ErrorIs(t, d.MMIO.RestoreState(s.State), virtio.ErrState)
		})
	}
	t.Run("in use", func(t *testing.T) {
		t.Parallel()
		d := virtiotest.Start(t, fresh(), small)
		assert.ErrorIs(t, d.MMIO.RestoreState(s.State), virtio.ErrState)
		assert.NoError(t, d.MMIO.Failure())
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		d := virtiotest.New(t, fresh(), small)
		require.NoError(t, d.MMIO.Close())
		assert.ErrorIs(t, d.MMIO.RestoreState(s.State), virtio.ErrState)
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		d := virtiotest.New(t, fresh(), virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 0x10000}}})
		assert.ErrorIs(t, d.MMIO.RestoreState(s.State), virtio.ErrState)
	})
}

// TestStateIsStable pins the encoding: an old checkpoint must stay readable.
func TestStateIsStable(t *testing.T) {
	t.Parallel()
	d, q, dev := open(t, virtiotest.Config{})
	q.Add(in(data, 1))
	pop(t, dev)
	assert.Equal(t, "01"+"2a000000"+"0f000000"+"0000003001000000"+
		"00000000"+"01000000"+"00000000"+"00000000"+"00000000"+"00"+"01"+
		"1000"+"01"+"0000010000000000"+"0001010000000000"+"2801010000000000"+
		"0100"+"0000"+"0000"+"00"+"0100000000000000"+"00000000", fmt.Sprintf("%x", snapshot(t, d)))
}
