package virtio_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestHostileIndices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		taken int // chains taken and returned before
		index func(q *virtiotest.Queue) uint16
	}{
		"N22 one more than the queue":          {0, func(q *virtiotest.Queue) uint16 { return q.Next + size + 1 }},
		"N22 one more than the queue, later":   {40, func(q *virtiotest.Queue) uint16 { return q.Next + size + 1 }},
		"N22 half the range":                   {0, func(q *virtiotest.Queue) uint16 { return q.Next + 0x8000 }},
		"N23 one backwards":                    {0, func(q *virtiotest.Queue) uint16 { return q.Next - 1 }},
		"N23 one backwards, later":             {40, func(q *virtiotest.Queue) uint16 { return q.Next - 1 }},
		"N23 a queue's length backwards":       {40, func(q *virtiotest.Queue) uint16 { return q.Next - size }},
		"N23 back to the start":                {40, func(*virtiotest.Queue) uint16 { return 0 }},
		"N22 over the wrap-around by too much": {65530, func(q *virtiotest.Queue) uint16 { return size }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, q, dev := open(t, virtiotest.Config{})
			var c2 virtio.Chain
			for range c.taken {
				q.Add(in(data, 1))
				ok, err := dev.Pop(&c2)
				require.True(t, ok)
				require.NoError(t, err)
				require.NoError(t, dev.Push(c2.Head, 0))
				q.Take()
			}
			q.SetAvailable(c.index(q))
			ok, err := dev.Pop(&c2)
			assert.ErrorIs(t, err, virtio.ErrGuest)
			assert.False(t, ok)
			_, err = dev.EnableKicks()
			assert.ErrorIs(t, err, virtio.ErrGuest)
		})
	}
	t.Run("N22 a whole queue is not too much", func(t *testing.T) {
		t.Parallel()
		_, q, dev := open(t, virtiotest.Config{})
		for range size {
			q.Add(in(data, 1))
		}
		for range size {
			pop(t, dev)
		}
	})
}

func TestHeadInUse(t *testing.T) {
	t.Parallel()
	t.Run("N24 offered again before it came back", func(t *testing.T) {
		t.Parallel()
		_, q, dev := open(t, virtiotest.Config{})
		head := q.Add(in(data, 1))
		pop(t, dev)
		q.Offer(head)
		var c virtio.Chain
		ok, err := dev.Pop(&c)
		assert.ErrorIs(t, err, virtio.ErrGuest)
		assert.False(t, ok)
	})
	t.Run("N24 offered again after it came back", func(t *testing.T) {
		t.Parallel()
		_, q, dev := open(t, virtiotest.Config{})
		head := q.Add(in(data, 1))
		for range 3 * size {
			c := pop(t, dev)
			require.Equal(t, head, c.Head)
			require.NoError(t, dev.Push(head, 0))
			q.Offer(head)
		}
	})
	t.Run("two chains may share descriptors", func(t *testing.T) {
		t.Parallel() // nothing forbids the device to read the same memory twice
		_, q, dev := open(t, virtiotest.Config{})
		q.Describe(0, data, 1, next, 2)
		q.Describe(1, data, 1, next, 2)
		q.Describe(2, data, 1, 0, 0)
		q.Offer(0)
		q.Offer(1)
		pop(t, dev)
		pop(t, dev)
	})
	t.Run("push of what was not popped", func(t *testing.T) {
		t.Parallel()
		_, q, dev := open(t, virtiotest.Config{})
		q.Add(in(data, 1))
		head := pop(t, dev).Head
		for _, h := range []uint16{head + 1, size, 0xffff} {
			assert.Error(t, dev.Push(h, 0))
		}
		require.NoError(t, dev.Push(head, 0))
		assert.Error(t, dev.Push(head, 0), "twice")
		assert.EqualValues(t, 1, q.UsedIndex())
	})
}

// TestRingsThatCannotBe (N25 to N27) end in a device that needs a reset, without ever
// being activated.
func TestRingsThatCannotBe(t *testing.T) {
	t.Parallel()
	const ram = virtiotest.RAMSize
	split := []memory.Range{{Base: 0, Size: ram / 2}, {Base: ram / 2, Size: ram / 2}}
	for name, c := range map[string]struct {
		move func(q *virtiotest.Queue)
		good bool
	}{
		"as they are":                   {move: func(q *virtiotest.Queue) {}, good: true},
		"N25 used beyond RAM":           {move: func(q *virtiotest.Queue) { q.Used = ram }},
		"N25 used over the end":         {move: func(q *virtiotest.Queue) { q.Used = ram - 8*size }},
		"N25 used_event beyond RAM":     {move: func(q *virtiotest.Queue) { q.Used = ram - 8*size - 4 }},
		"N25 used up to the end":        {move: func(q *virtiotest.Queue) { q.Used = ram - 8*size - 8 }, good: true},
		"N25 used over two regions":     {move: func(q *virtiotest.Queue) { q.Used = ram/2 - 8 }},
		"N25 used in a hole":            {move: func(q *virtiotest.Queue) { q.Used = 0xd0000000 }},
		"N25 used at the top":           {move: func(q *virtiotest.Queue) { q.Used = ^uint64(3) }},
		"N25 descriptors beyond RAM":    {move: func(q *virtiotest.Queue) { q.Desc = ram }},
		"N25 descriptors over the end":  {move: func(q *virtiotest.Queue) { q.Desc = ram - 16 }},
		"N25 descriptors up to the end": {move: func(q *virtiotest.Queue) { q.Desc = ram - 16*size }, good: true},
		"N25 descriptors at the top":    {move: func(q *virtiotest.Queue) { q.Desc = ^uint64(15) }},
		"N25 available beyond RAM":      {move: func(q *virtiotest.Queue) { q.Avail = ram }},
		"N25 available over the end":    {move: func(q *virtiotest.Queue) { q.Avail = ram - 2*size }},
		"N25 available up to the end":   {move: func(q *virtiotest.Queue) { q.Avail = ram - 2*size - 6 }, good: true},
		"N25 available at the top":      {move: func(q *virtiotest.Queue) { q.Avail = ^uint64(1) }},
		"N26 descriptors at 8":          {move: func(q *virtiotest.Queue) { q.Desc = data + 8 }},
		"N26 descriptors at 1":          {move: func(q *virtiotest.Queue) { q.Desc = data + 1 }},
		"N26 available at 1":            {move: func(q *virtiotest.Queue) { q.Avail = data + 1 }},
		"N26 available at 2 is aligned": {move: func(q *virtiotest.Queue) { q.Avail = data + 2 }, good: true},
		"N26 used at 2":                 {move: func(q *virtiotest.Queue) { q.Used = data + 2 }},
		"N26 used at 1":                 {move: func(q *virtiotest.Queue) { q.Used = data + 1 }},
		"N27 all at one place":          {move: func(q *virtiotest.Queue) { q.Avail, q.Used = q.Desc, q.Desc }},
		"N27 used in descriptors":       {move: func(q *virtiotest.Queue) { q.Used = q.Desc + 16*size - 4 }},
		"N27 descriptors in used":       {move: func(q *virtiotest.Queue) { q.Desc, q.Used = data+16, data }},
		"N27 available in descriptors":  {move: func(q *virtiotest.Queue) { q.Avail = q.Desc + 16*size - 2 }},
		"N27 available in used":         {move: func(q *virtiotest.Queue) { q.Avail = q.Used + 8*size + 4 }},
		"N27 used in available":         {move: func(q *virtiotest.Queue) { q.Avail, q.Used = data, data+2*size+4 }},
		"N27 one behind the other":      {move: func(q *virtiotest.Queue) { q.Desc, q.Avail, q.Used = data, data+16*size, data+18*size+8 }, good: true},
		"all in page zero":              {move: func(q *virtiotest.Queue) { q.Desc, q.Avail, q.Used = 0, 0x400, 0x800 }, good: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := &virtiotest.Device{Type: 42, Sizes: []uint16{size, size}}
			d := virtiotest.New(t, dev, virtiotest.Config{RAM: split})
			d.Negotiate()
			d.LayOut()
			c.move(d.Queues[1])
			d.Queues[0].Program()
			d.Queues[1].Program()
			d.Store(virtiotest.RegStatus, virtiotest.Running)
			if !c.good {
				assert.True(t, d.NeedsReset())
				assert.ErrorIs(t, d.MMIO.Failure(), virtio.ErrGuest)
				assert.Zero(t, dev.Activated)
				d.Restart()
			}
			require.False(t, d.NeedsReset())
			q, host := d.Queues[1], dev.Active.Queues[1]
			for range 3 * size {
				q.Add(in(data+0x1000, 1), out(data+0x1000, 1))
				require.NoError(t, host.Push(pop(t, host).Head, 1))
				_, ok := q.Take()
				require.True(t, ok)
			}
		})
	}
}

// TestUsedRing pins the used ring, byte by byte, over the wrap-around of its index.
func TestUsedRing(t *testing.T) {
	t.Parallel()
	d, q, dev := open(t, virtiotest.Config{})
	for i := range 70000 {
		head := q.Add(in(data, 1), out(data, 1))
		require.NoError(t, dev.Push(pop(t, dev).Head, uint32(i)*77777))
		b := d.Bytes(q.Used+4+8*uint64(i%size), 8)
		require.EqualValues(t, head, le.Uint32(b))
		require.EqualValues(t, uint32(i)*77777, le.Uint32(b[4:]))
		b = d.Bytes(q.Used, 4)
		require.Zero(t, le.Uint16(b), "flags")
		require.EqualValues(t, uint16(i+1), le.Uint16(b[2:]))
		q.Take()
	}
}

// TestUsedEvent (N28) compares the interrupts with the rule of §2.7.10 for every value
// of used_event, and a choice of numbers of returned chains.
func TestUsedEvent(t *testing.T) {
	t.Parallel()
	d, q, dev := open(t, virtiotest.Config{})
	returned := uint16(0)
	for event := range 1 << 16 {
		q.SetUsedEvent(uint16(event))
		n := uint16(event%size + 1)
		for range n {
			q.Add(in(data, 1))
		}
		for range n {
			require.NoError(t, dev.Push(pop(t, dev).Head, 0))
			q.Take()
		}
		want := d.IRQ.Count()
		for i := range n {
			if returned+i == uint16(event) {
				want++
			}
		}
		require.NoError(t, dev.Notify())
		require.Equal(t, want, d.IRQ.Count(), "used_event %d, %d chains after %d", event, n, returned)
		require.NoError(t, dev.Notify())
		require.Equal(t, want, d.IRQ.Count(), "nothing was returned since")
		returned += n
	}
}

// TestNotifyAfterALap returns 2^16 chains between two Notify: the index is what it was,
// but the driver waits.
func TestNotifyAfterALap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ chains, interrupts int }{
		"one less": {1<<16 - 1, 1}, "a lap": {1 << 16, 1}, "one more": {1<<16 + 1, 1}, "two laps": {1 << 17, 1}, "none": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, q, dev := open(t, virtiotest.Config{})
			q.SetUsedEvent(5)
			for range c.chains {
				q.Add(in(data, 1))
				require.NoError(t, dev.Push(pop(t, dev).Head, 0))
				q.Take()
			}
			require.NoError(t, dev.Notify())
			assert.EqualValues(t, c.interrupts, d.IRQ.Count())
			require.NoError(t, dev.Notify())
			assert.EqualValues(t, c.interrupts, d.IRQ.Count())
		})
	}
}

func TestNoInterruptFlag(t *testing.T) {
	t.Parallel()
	for _, avail := range []uint64{0, data, data + 2} {
		dev := &virtiotest.Device{Type: 42, Sizes: []uint16{size}}
		d := virtiotest.New(t, dev, virtiotest.Config{Refuse: noEventIdx})
		d.Negotiate()
		d.LayOut()
		q := d.Queues[0]
		if avail != 0 {
			q.Avail = avail
		}
		q.Program()
		d.Store(virtiotest.RegStatus, virtiotest.Running)
		host := dev.Active.Queues[0]
		for i := range 100 {
			q.NoInterrupt = i%3 == 0
			q.Add(in(data+0x1000, 1))
			require.NoError(t, host.Push(pop(t, host).Head, 0))
			q.Take()
			before := d.IRQ.Count()
			require.NoError(t, host.Notify())
			assert.Equal(t, !q.NoInterrupt, d.IRQ.Count() > before)
		}
	}
}

// TestKickSuppression checks what the driver reads of DisableKicks and EnableKicks.
func TestKickSuppression(t *testing.T) {
	t.Parallel()
	t.Run("flag", func(t *testing.T) {
		t.Parallel()
		_, q, dev := open(t, virtiotest.Config{Refuse: noEventIdx})
		for range 3 {
			q.Add(in(data, 1))
			assert.True(t, q.Kick())
			dev.DisableKicks()
			require.NoError(t, dev.Push(pop(t, dev).Head, 0))
			q.Add(in(data, 1))
			assert.False(t, q.Kick(), "the index moved, the flag stays")
			more, err := dev.EnableKicks()
			require.NoError(t, err)
			assert.True(t, more)
			require.NoError(t, dev.Push(pop(t, dev).Head, 0))
			more, err = dev.EnableKicks()
			require.NoError(t, err)
			assert.False(t, more)
		}
		assert.EqualValues(t, 6, q.UsedIndex())
	})
	t.Run("event", func(t *testing.T) {
		t.Parallel()
		_, q, dev := open(t, virtiotest.Config{})
		for i := range 1 << 17 {
			q.Add(in(data, 1))
			require.True(t, q.Kick(), "%d", i)
			dev.DisableKicks()
			require.NoError(t, dev.Push(pop(t, dev).Head, 0))
			q.Add(in(data, 1))
			require.False(t, q.Kick(), "%d", i)
			require.NoError(t, dev.Push(pop(t, dev).Head, 0))
			more, err := dev.EnableKicks()
			require.NoError(t, err)
			require.False(t, more)
			q.Take()
			q.Take()
		}
	})
}

// TestQueueAgainstAModel takes and returns chains of all shapes in any order and
// compares what the device and the driver see with what was offered.
func TestQueueAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		cfg := virtiotest.Config{Indirect: seed&1 != 0, Refuse: seed & 2 / 2 * noEventIdx, QueueSize: 1 << (seed % 5)}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			d, q, dev := open(t, cfg)
			type offer struct {
				head uint16
				bufs []virtiotest.Buffer
			}
			var offered, held []offer
			var returned []virtiotest.Used
			for range 4000 {
				switch r.IntN(4) {
				case 0, 1:
					n := 1 + r.IntN(int(q.Size))
					if q.Free() < n {
						continue
					}
					var bufs []virtiotest.Buffer
					for i := range n {
						bufs = append(bufs, virtiotest.Buffer{Addr: data + uint64(r.IntN(1<<20)), Len: 1 + r.Uint32N(5000), Write: i >= n/2})
					}
					offered = append(offered, offer{q.Add(bufs...), bufs})
				case 2:
					var c virtio.Chain
					ok, err := dev.Pop(&c)
					require.NoError(t, err)
					require.Equal(t, len(offered) > 0, ok)
					if !ok {
						continue
					}
					o := offered[0]
					offered, held = offered[1:], append(held, o)
					require.Equal(t, o.head, c.Head)
					require.Len(t, o.bufs, len(c.Readable)+len(c.Writable))
					for i, s := range append(append([][]byte(nil), c.Readable...), c.Writable...) {
						require.Len(t, s, int(o.bufs[i].Len))
						require.Same(t, &d.Bytes(o.bufs[i].Addr, 1)[0], &s[0])
					}
				case 3:
					if len(held) == 0 {
						continue
					}
					i := r.IntN(len(held))
					u := virtiotest.Used{Head: held[i].head, Len: r.Uint32()}
					held = append(held[:i], held[i+1:]...)
					require.NoError(t, dev.Push(u.Head, u.Len))
					returned = append(returned, u)
					if r.IntN(3) > 0 {
						continue
					}
					for _, want := range returned {
						got, ok := q.Take()
						require.True(t, ok)
						require.Equal(t, want, got)
					}
					returned = nil
				}
			}
		})
	}
}

func TestQueueDoesNotAllocate(t *testing.T) {
	for name, cfg := range map[string]virtiotest.Config{"events": {}, "flags": {Refuse: noEventIdx}, "indirect": {Indirect: true}} {
		_, q, dev := open(t, cfg)
		var c virtio.Chain
		bufs := []virtiotest.Buffer{in(data, 16), in(data, 512), out(data, 4096), out(data, 1)}
		step := func() {
			for range 3 {
				q.Add(bufs...)
			}
			q.Kick()
			dev.DisableKicks()
			for {
				ok, err := dev.Pop(&c)
				if err != nil {
					panic(err)
				}
				if !ok {
					break
				}
				if err := dev.Push(c.Head, 1); err != nil {
					panic(err)
				}
			}
			if err := dev.Notify(); err != nil {
				panic(err)
			}
			if more, err := dev.EnableKicks(); more || err != nil {
				panic("more")
			}
			for range 3 {
				q.Take()
			}
		}
		for range size { // until every indirect table exists
			step()
		}
		assert.Zero(t, testing.AllocsPerRun(1000, step), name)
	}
}

// TestPushAll: several chains come at once, and each must have been popped.
func TestPushAll(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]virtiotest.Config{"event index": {}, "flags": {Refuse: noEventIdx}} {
		_, q, dev := open(t, cfg)
		for range 3 * size { // past the wrap-around of the ring
			var chains []virtio.Used
			for i := range 5 {
				q.Add(in(data, 1))
				chains = append(chains, virtio.Used{Head: pop(t, dev).Head, Len: uint32(i)})
			}
			before := q.UsedIndex()
			require.NoError(t, dev.PushAll(chains), name)
			require.Equal(t, before+5, q.UsedIndex())
			for i := range 5 {
				u, ok := q.Take()
				require.True(t, ok)
				require.Equal(t, virtiotest.Used(chains[i]), u)
			}
			assert.Error(t, dev.PushAll(chains), "twice")
			require.Equal(t, before+5, q.UsedIndex())
		}
		require.NoError(t, dev.PushAll(nil))
	}
}
