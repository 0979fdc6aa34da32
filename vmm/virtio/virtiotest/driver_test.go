package virtiotest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo returns what it reads on queue 0.
func echo() *virtiotest.Device {
	var w *virtio.Worker
	return &virtiotest.Device{
		Type: 42, Sizes: []uint16{8},
		OnActivate: func(a virtio.Activation) error {
			var c virtio.Chain
			buf := make([]byte, 64)
			q := a.Queues[0]
			w = virtio.StartWorker(q.Kick(), func() {
				for {
					ok, err := q.Pop(&c)
					if err != nil {
						a.Fail(err)
						return
					}
					if !ok {
						if more, _ := q.EnableKicks(); more {
							continue
						}
						return
					}
					n := c.Write(0, buf[:c.Read(0, buf)])
					if err := q.Push(c.Head, uint32(n)); err == nil {
						_ = q.Notify()
					}
				}
			})
			return nil
		},
		OnPause:  func() { w.Pause() },
		OnResume: func() { w.Resume() },
		OnReset:  func() { w.Stop() },
	}
}

func TestDriverTalksToADevice(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]virtiotest.Config{
		"plain":           {Refuse: virtio.FeatureEventIdx | virtio.FeatureIndirectDesc},
		"event index":     {Refuse: virtio.FeatureIndirectDesc},
		"indirect":        {Refuse: virtio.FeatureEventIdx, Indirect: true},
		"everything":      {Indirect: true},
		"size of two":     {QueueSize: 2},
		"indirect of one": {QueueSize: 1, Indirect: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := virtiotest.Start(t, echo(), cfg)
			q := d.Queues[0]
			for round := range 70000 / 500 {
				p := []byte{byte(round), 2, 3}
				d.Write(virtiotest.DataBase, p)
				bufs := []virtiotest.Buffer{{Addr: virtiotest.DataBase, Len: 3}, {Addr: virtiotest.DataBase + 64, Len: 64, Write: true}}
				if cfg.QueueSize == 1 {
					bufs = bufs[:1]
				}
				u := q.Do(bufs...)
				if len(bufs) == 2 {
					require.EqualValues(t, 3, u.Len)
					require.Equal(t, p, d.Bytes(virtiotest.DataBase+64, 3))
				}
			}
			assert.EqualValues(t, q.Size, q.Free(), "no descriptor is lost")
			assert.False(t, d.NeedsReset())
			d.Restart()
			d.Queues[0].Do(virtiotest.Buffer{Addr: virtiotest.DataBase, Len: 1})
		})
	}
}

func TestRestoredDriverGoesOn(t *testing.T) {
	t.Parallel()
	d := virtiotest.Start(t, echo(), virtiotest.Config{})
	d.Write(virtiotest.DataBase, []byte("abc"))
	bufs := []virtiotest.Buffer{{Addr: virtiotest.DataBase, Len: 3}, {Addr: virtiotest.DataBase + 64, Len: 64, Write: true}}
	d.Queues[0].Do(bufs...)
	d.MMIO.Pause()
	c := virtiotest.Restore(t, echo(), virtiotest.Config{}, d.Save())
	d.MMIO.Resume()
	for _, x := range []*virtiotest.Driver{c, d} {
		for range 20 {
			require.EqualValues(t, 3, x.Queues[0].Do(bufs...).Len)
		}
	}
}
