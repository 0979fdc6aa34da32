package virtio_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// serve is a device whose queues all return every chain: with a goroutine of their own
// if async, as a block device does it, else at once.
func serve(async bool, sizes ...uint16) *virtiotest.Device {
	var workers []*virtio.Worker
	var wg sync.WaitGroup
	var pushers []chan uint16
	return &virtiotest.Device{
		Type: 42, Sizes: sizes,
		OnActivate: func(a virtio.Activation) error {
			for _, q := range a.Queues {
				if q == nil {
					continue
				}
				back := func(head uint16) {
					if q.Push(head, 0) != nil || q.Notify() != nil {
						panic("push")
					}
				}
				done := back
				if async {
					heads := make(chan uint16, q.Size())
					wg.Go(func() {
						for h := range heads {
							back(h)
						}
					})
					pushers = append(pushers, heads)
					done = func(head uint16) { heads <- head }
				}
				var c virtio.Chain
				workers = append(workers, virtio.StartWorker(q.Kick(), func() { drain(a, q, &c, done) }))
			}
			return nil
		},
		OnPause: func() {
			for _, w := range workers {
				w.Pause()
			}
		},
		OnResume: func() {
			for _, w := range workers {
				w.Resume()
			}
		},
		OnReset: func() {
			for _, w := range workers {
				w.Stop()
			}
			for _, p := range pushers {
				close(p)
			}
			wg.Wait()
			workers, pushers = nil, nil
		},
	}
}

func drain(a virtio.Activation, q *virtio.Queue, c *virtio.Chain, done func(uint16)) {
	for {
		q.DisableKicks()
		for {
			ok, err := q.Pop(c)
			if err != nil {
				a.Fail(err)
				return
			}
			if !ok {
				break
			}
			done(c.Head)
		}
		if more, err := q.EnableKicks(); err != nil || !more {
			return
		}
	}
}

// TestNoWakeUpIsLost has driver and device sleep whenever they have nothing to do, over
// more than one wrap-around of the indices: a lost kick or interrupt is a hang.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]virtiotest.Config{
		"events":            {},
		"events of one":     {QueueSize: 1},
		"flags":             {Refuse: noEventIdx},
		"flags of two":      {Refuse: noEventIdx, QueueSize: 2},
		"indirect and flag": {Refuse: noEventIdx, Indirect: true},
	} {
		for _, async := range []bool{false, true} {
			if async {
				name += ", returned by another goroutine"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dev := serve(async, 64)
				d := virtiotest.Start(t, dev, cfg)
				q := d.Queues[0]
				r := rand.New(rand.NewPCG(1, 2))
				out := 0
				for done := 0; done < 70000; {
					for n := r.IntN(int(q.Size) + 1); n > 0 && q.Free() > 0; n-- {
						q.Add(in(data, 1))
						out++
					}
					q.Kick()
					for wait := r.IntN(out + 1); wait > 0; {
						if _, ok := q.Take(); ok {
							wait, out, done = wait-1, out-1, done+1
							continue
						}
						if q.SetUsedEvent(q.Seen); q.UsedIndex() == q.Seen {
							d.IRQ.Wait(t)
						}
					}
				}
				assert.NoError(t, d.MMIO.Failure())
			})
		}
	}
}

// TestDescriptorsThatChange (N29) has the guest rewrite descriptors, tables and rings
// while the device reads them: what Pop returns is always inside RAM and adds up.
func TestDescriptorsThatChange(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]virtiotest.Config{"events": {}, "flags": {Refuse: noEventIdx}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, q, dev := open(t, cfg)
			var stop atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() { mutate(d, q, &stop) })
			defer wg.Wait()
			defer stop.Store(true)
			var c virtio.Chain
			taken, refused := 0, 0
			buf := make([]byte, 1000)
			for i := 0; i < 30000 || taken == 0 || refused == 0; i++ {
				q.Next++
				q.SetAvailable(q.Next)
				ok, err := dev.Pop(&c)
				if err != nil {
					require.ErrorIs(t, err, virtio.ErrGuest)
					refused++
					q.Next--
					q.SetAvailable(q.Next)
					continue
				}
				require.True(t, ok)
				taken++
				require.Less(t, c.Head, uint16(size))
				require.Equal(t, c.ReadableLen(), total(c.Readable))
				require.Equal(t, c.WritableLen(), total(c.Writable))
				c.Write(0, buf[:c.Read(0, buf)])
				require.NoError(t, dev.Push(c.Head, 0))
			}
		})
	}
}

func total(parts [][]byte) (n uint64) {
	for _, p := range parts {
		n += uint64(len(p))
	}
	return n
}

// mutate flips the fields of the descriptors, of a table and of the available ring
// between values that are good and values that are not.
func mutate(d *virtiotest.Driver, q *virtiotest.Queue, stop *atomic.Bool) {
	r := rand.New(rand.NewPCG(3, 4))
	addrs := []uint64{data, table, virtiotest.RAMSize - 100, virtiotest.RAMSize, ^uint64(0)}
	lens := []uint32{0, 16, 32, 100, 4096, 0xffffffff}
	for !stop.Load() {
		at := uint64(r.IntN(size))
		base := q.Desc
		if r.IntN(4) == 0 {
			base = table
		}
		b := d.Bytes(base+16*at, 16)
		switch r.IntN(5) {
		case 0:
			le.PutUint64(b, addrs[r.IntN(len(addrs))])
		case 1:
			le.PutUint32(b[8:], lens[r.IntN(len(lens))])
		case 2:
			le.PutUint16(b[12:], uint16(r.IntN(8)))
		case 3:
			le.PutUint16(b[14:], uint16(r.IntN(size+1)))
		case 4:
			le.PutUint16(d.Bytes(q.Avail+4+2*at, 2), uint16(r.IntN(size+1)))
		}
	}
}

// TestKicksOfAnEmptyQueue (N30): what a million notifications cost is bounded by the
// notifications themselves, and a chain is served afterwards.
func TestKicksOfAnEmptyQueue(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	var w *virtio.Worker
	dev := &virtiotest.Device{Type: 42, Sizes: []uint16{size}, OnReset: func() { w.Stop() }}
	dev.OnActivate = func(a virtio.Activation) error {
		q := a.Queues[0]
		var c virtio.Chain
		w = virtio.StartWorker(q.Kick(), func() {
			runs.Add(1)
			drain(a, q, &c, func(head uint16) {
				if q.Push(head, 0) != nil || q.Notify() != nil {
					panic("push")
				}
			})
		})
		return nil
	}
	d := virtiotest.Start(t, dev, virtiotest.Config{})
	const kicks = 1000000
	for range kicks {
		d.Queues[0].Notify()
	}
	d.Queues[0].Do(in(data, 1))
	assert.LessOrEqual(t, runs.Load(), int64(kicks+2))
	assert.EqualValues(t, 1, d.IRQ.Count())
	assert.NoError(t, d.MMIO.Failure())
}

// TestRegistersFromManyProcessors has virtual processors store and load registers while
// others reset the device and the host asks for interrupts.
func TestRegistersFromManyProcessors(t *testing.T) {
	t.Parallel()
	dev := serve(true, size, size)
	dev.Space = make([]byte, 8)
	d := virtiotest.New(t, dev, virtiotest.Config{})
	d.Negotiate()
	d.LayOut()
	var wg sync.WaitGroup
	for cpu := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(cpu, 5))
			var b [4]byte
			for range 5000 {
				le.PutUint32(b[:], []uint32{0, 1, 3, 11, 15, 0xffffffff}[r.IntN(6)])
				off := uint64(4 * r.IntN(0x110/4))
				if r.IntN(3) == 0 {
					off = virtiotest.RegStatus
				}
				if r.IntN(2) == 0 {
					d.MMIO.Read(off, b[:])
				} else {
					d.MMIO.Write(off, b[:])
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				d.MMIO.Pause()
				_ = d.MMIO.Failure()
				d.MMIO.Resume()
			}
		})
	}
	wg.Wait()
	d.Restart()
	for _, q := range d.Queues {
		q.Do(in(data, 1))
	}
}
