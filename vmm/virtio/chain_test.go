package virtio_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	next     = virtiotest.DescNext
	write    = virtiotest.DescWrite
	indirect = virtiotest.DescIndirect
)

// TestHostileChains offers one chain each that the device must take, or refuse for the
// reason named.
func TestHostileChains(t *testing.T) {
	t.Parallel()
	const (
		ram     = virtiotest.RAMSize
		fourGiB = 1 << 32
	)
	split := []memory.Range{{Base: 0, Size: ram / 2}, {Base: ram / 2, Size: ram / 2}, {Base: fourGiB, Size: 1 << 20}}
	large := []memory.Range{{Base: 0, Size: 3 << 30}}
	type lengths struct{ readable, writable uint64 }
	for name, c := range map[string]struct {
		cfg    virtiotest.Config
		offer  func(d *virtiotest.Driver, q *virtiotest.Queue)
		want   lengths
		refuse string // part of the error
	}{
		"N1 head beyond the queue": {refuse: "descriptor 16 in a queue of 16",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) { q.Offer(size) }},
		"N1 head 65535": {refuse: "descriptor 65535",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) { q.Offer(0xffff) }},
		"N2 next beyond the queue": {refuse: "leads to descriptor 16 of 16",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				q.Describe(0, data, 1, next, size)
				q.Offer(0)
			}},
		"N2 next 65535": {refuse: "leads to descriptor 65535",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				q.Describe(0, data, 1, next, 0xffff)
				q.Offer(0)
			}},
		"N2 next is ignored without the flag": {want: lengths{readable: 1},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				q.Describe(0, data, 1, 0, 0xffff)
				q.Offer(0)
			}},
		"N2 next beyond the table": {refuse: "leads to descriptor 2 of 2",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				d.Describe(table, data, 1, next, 2)
				offerTable(q, table, 32, indirect)
			}},
		"N3 loop of one": {refuse: "longer than the queue",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				q.Describe(0, data, 1, next, 0)
				q.Offer(0)
			}},
		"N3 loop of one empty descriptor": {refuse: "longer than the queue",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				q.Describe(0, data, 0, next, 0)
				q.Offer(0)
			}},
		"N4 loop of two":     {refuse: "longer than the queue", offer: loop(2)},
		"N4 loop of three":   {refuse: "longer than the queue", offer: loop(3)},
		"N4 loop of fifteen": {refuse: "longer than the queue", offer: loop(15)},
		"N4 loop of all":     {refuse: "longer than the queue", offer: loop(16)},
		"N4 loop in a table": {refuse: "longer than the queue",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				d.Describe(table, data, 1, next, 1)
				d.Describe(table+16, data, 1, next, 0)
				offerTable(q, table, 32, indirect)
			}},
		"as long as the queue": {want: lengths{readable: size}, offer: chain(size)},
		"N5 table as long as the queue": {want: lengths{readable: size},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				fill(d, size)
				offerTable(q, table, 16*size, indirect)
			}},
		"N5 longer than the queue through a table": {refuse: "longer than the queue",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				fill(d, size)
				q.Describe(0, data, 1, next, 1)
				q.Describe(1, table, 16*size, indirect, 0)
				q.Offer(0)
			}},
		"N5 descriptors and then a table": {want: lengths{readable: size},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				fill(d, size-1)
				q.Describe(0, data, 1, next, 1)
				q.Describe(1, table, 16*(size-1), indirect, 0)
				q.Offer(0)
			}},
		"N6 table of nothing":                       {refuse: "indirect table of 0 bytes", offer: tableOf(0)},
		"N7 table of 15":                            {refuse: "indirect table of 15 bytes", offer: tableOf(15)},
		"N7 table of 17":                            {refuse: "indirect table of 17 bytes", offer: tableOf(17)},
		"N8 table of one entry more than the queue": {refuse: "indirect table of 272 bytes", offer: tableOf(16 * (size + 1))},
		"N8 table of 65537 entries":                 {refuse: "indirect table", offer: tableOf(16 * 65537)},
		"N8 table of 4 GiB":                         {refuse: "indirect table", offer: tableOf(0xfffffff0)},
		"N9 nested table": {refuse: "inside another",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				d.Describe(table, table, 16, indirect, 0)
				offerTable(q, table, 16, indirect)
			}},
		"N10 table and next": {refuse: "goes on after an indirect table",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				fill(d, 1)
				offerTable(q, table, 16, indirect|next)
			}},
		"the write flag of a table is ignored": {want: lengths{readable: 1},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				fill(d, 1)
				offerTable(q, table, 16, indirect|write)
			}},
		"N11 table that was not negotiated": {refuse: "not negotiated", cfg: virtiotest.Config{Refuse: virtio.FeatureIndirectDesc},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				fill(d, 1)
				offerTable(q, table, 16, indirect)
			}},
		"N12 table over the end of RAM": {refuse: "out of range",
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) { offerTable(q, ram-16, 32, indirect) }},
		"N12 table over the end of a region": {refuse: "out of range", cfg: virtiotest.Config{RAM: split},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) { offerTable(q, ram/2-16, 32, indirect) }},
		"N12 table at the end of RAM": {want: lengths{readable: 1},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				d.Describe(ram-16, data, 1, 0, 0)
				offerTable(q, ram-16, 16, indirect)
			}},
		"N12 table at an odd address": {want: lengths{readable: 1},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				d.Describe(table+1, data, 1, 0, 0)
				offerTable(q, table+1, 16, indirect)
			}},
		"N13 end wraps around":          {refuse: "out of range", offer: one(^uint64(0), 2, 0)},
		"N13 end is 2^64":               {refuse: "out of range", offer: one(^uint64(0), 1, 0)},
		"N13 last page":                 {refuse: "out of range", offer: one(^uint64(4095), 8192, write)},
		"N14 one byte over the end":     {refuse: "out of range", offer: one(ram-1, 2, 0)},
		"N14 64 KiB at the last byte":   {refuse: "out of range", offer: one(ram-1, 65536, write)},
		"N14 last byte of RAM":          {want: lengths{readable: 1}, offer: one(ram-1, 1, 0)},
		"N14 first byte behind RAM":     {refuse: "out of range", offer: one(ram, 1, 0)},
		"N15 over two adjacent regions": {refuse: "out of range", cfg: virtiotest.Config{RAM: split}, offer: one(ram/2-1, 2, write)},
		"N15 up to the next region":     {want: lengths{readable: 1}, cfg: virtiotest.Config{RAM: split}, offer: one(ram/2-1, 1, 0)},
		"N15 from the next region":      {want: lengths{readable: 1}, cfg: virtiotest.Config{RAM: split}, offer: one(ram/2, 1, 0)},
		"N16 in the hole":               {refuse: "out of range", cfg: virtiotest.Config{RAM: split}, offer: one(0xd0000000, 16, write)},
		"N16 above the hole":            {want: lengths{writable: 16}, cfg: virtiotest.Config{RAM: split}, offer: one(fourGiB, 16, write)},
		"N18 nothing at all":            {want: lengths{}, offer: one(data, 0, 0)},
		"N18 nothing at no address":     {want: lengths{}, offer: one(^uint64(0), 0, write)},
		"N18 empty first":               {want: lengths{3, 4}, offer: several(in(0, 0), in(data, 3), out(data, 4))},
		"N18 empty in the middle":       {want: lengths{3, 4}, offer: several(in(data, 3), in(0, 0), out(0, 0), out(data, 4))},
		"N18 empty last":                {want: lengths{3, 4}, offer: several(in(data, 3), out(data, 4), out(0, 0))},
		"N19 length 0xffffffff":         {refuse: "out of range", offer: one(data, 0xffffffff, 0)},
		"N19 sum is 2^32-1":             {want: lengths{readable: 1<<32 - 1}, cfg: virtiotest.Config{RAM: large}, offer: several(in(0, 1<<31), in(0, 1<<31-1))},
		"N19 sum is 2^32":               {refuse: "more than 4294967295 bytes", cfg: virtiotest.Config{RAM: large}, offer: several(in(0, 1<<31), in(0, 1<<31))},
		"N19 sum of both kinds is 2^32": {refuse: "more than 4294967295 bytes", cfg: virtiotest.Config{RAM: large}, offer: several(in(0, 1<<31), out(0, 1<<31))},
		"N19 sixteen times 3 GiB": {refuse: "more than 4294967295 bytes", cfg: virtiotest.Config{RAM: large},
			offer: func(d *virtiotest.Driver, q *virtiotest.Queue) {
				for i := range uint16(size) {
					q.Describe(i, 0, 3<<30, next, i+1)
				}
				q.Offer(0)
			}},
		"N20 writable before readable":       {refuse: "readable part after a writable", offer: several(out(data, 1), in(data, 1))},
		"N20 readable after both":            {refuse: "readable part after a writable", offer: several(in(data, 1), out(data, 1), in(data, 1))},
		"N20 empty readable behind writable": {refuse: "readable part after a writable", offer: several(out(data, 1), in(data, 0))},
		"N21 only readable":                  {want: lengths{readable: 7}, offer: several(in(data, 3), in(data, 4))},
		"N21 only writable":                  {want: lengths{writable: 7}, offer: several(out(data, 3), out(data, 4))},
		"unknown flags":                      {want: lengths{readable: 5}, offer: one(data, 5, 0xfff8)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, q, dev := open(t, c.cfg)
			c.offer(d, q)
			var got virtio.Chain
			ok, err := dev.Pop(&got)
			if c.refuse != "" {
				require.ErrorIs(t, err, virtio.ErrGuest)
				assert.ErrorContains(t, err, c.refuse)
				assert.False(t, ok)
				return
			}
			require.NoError(t, err)
			require.True(t, ok)
			assert.Equal(t, c.want, lengths{got.ReadableLen(), got.WritableLen()})
			var sum lengths
			for _, s := range got.Readable {
				assert.NotEmpty(t, s)
				sum.readable += uint64(len(s))
			}
			for _, s := range got.Writable {
				assert.NotEmpty(t, s)
				sum.writable += uint64(len(s))
			}
			assert.Equal(t, c.want, sum)
			require.NoError(t, dev.Push(got.Head, 0))
			assert.EqualValues(t, 1, q.UsedIndex())
		})
	}
}

var le = binary.LittleEndian

// The functions below make the offers of TestHostileChains.

func one(addr uint64, length uint32, flags uint16) func(*virtiotest.Driver, *virtiotest.Queue) {
	return func(_ *virtiotest.Driver, q *virtiotest.Queue) {
		q.Describe(0, addr, length, flags&^(next|indirect), 0)
		q.Offer(0)
	}
}

func several(bufs ...virtiotest.Buffer) func(*virtiotest.Driver, *virtiotest.Queue) {
	return func(_ *virtiotest.Driver, q *virtiotest.Queue) { q.Add(bufs...) }
}

func chain(n uint16) func(*virtiotest.Driver, *virtiotest.Queue) {
	return func(_ *virtiotest.Driver, q *virtiotest.Queue) {
		for i := range n {
			flags := uint16(next)
			if i == n-1 {
				flags = 0
			}
			q.Describe(i, data, 1, flags, i+1)
		}
		q.Offer(0)
	}
}

func loop(n uint16) func(*virtiotest.Driver, *virtiotest.Queue) {
	return func(_ *virtiotest.Driver, q *virtiotest.Queue) {
		for i := range n {
			q.Describe(i, data, 1, next, (i+1)%n)
		}
		q.Offer(n - 1)
	}
}

// fill makes a chain of n bytes in the table.
func fill(d *virtiotest.Driver, n uint16) {
	for i := range n {
		flags := uint16(next)
		if i == n-1 {
			flags = 0
		}
		d.Describe(table+16*uint64(i), data, 1, flags, i+1)
	}
}

func offerTable(q *virtiotest.Queue, addr uint64, length uint32, flags uint16) {
	q.Describe(3, addr, length, flags, 0)
	q.Offer(3)
}

func tableOf(length uint32) func(*virtiotest.Driver, *virtiotest.Queue) {
	return func(d *virtiotest.Driver, q *virtiotest.Queue) {
		fill(d, size)
		offerTable(q, table, length, indirect)
	}
}

// TestChainInsideTheRings (N17) lets the device overwrite its own descriptors: only the
// guest suffers.
func TestChainInsideTheRings(t *testing.T) {
	t.Parallel()
	for name, area := range map[string]func(q *virtiotest.Queue) (uint64, uint32){
		"descriptors": func(q *virtiotest.Queue) (uint64, uint32) { return q.Desc, 16 * size },
		"available":   func(q *virtiotest.Queue) (uint64, uint32) { return q.Avail, 6 + 2*size },
		"used":        func(q *virtiotest.Queue) (uint64, uint32) { return q.Used, 6 + 8*size },
	} {
		for _, junk := range []byte{0, 0xff, 0x5a} {
			_, q, dev := open(t, virtiotest.Config{})
			addr, n := area(q)
			q.Describe(0, addr, n, write, 0)
			q.Offer(0)
			c := pop(t, dev)
			assert.EqualValues(t, n, c.Write(0, bytes.Repeat([]byte{junk}, 4096)), name)
			require.NoError(t, dev.Push(c.Head, n))
			require.NoError(t, dev.Notify())
			for range 2 * size { // whatever is there now, it comes to an end
				if ok, err := dev.Pop(c); !ok || err != nil {
					break
				}
				require.NoError(t, dev.Push(c.Head, 0))
			}
		}
	}
}

func TestChainReadAndWrite(t *testing.T) {
	t.Parallel()
	d, q, dev := open(t, virtiotest.Config{})
	d.Write(data, []byte("abcdefghij"))
	q.Add(in(data, 3), in(data+3, 1), in(data+4, 6), out(data+100, 2), out(data+200, 5))
	c := pop(t, dev)
	for off := range uint64(12) {
		for n := range 12 {
			p := make([]byte, n)
			got := c.Read(off, p)
			want := "abcdefghij"[min(off, 10):]
			want = want[:min(len(want), n)]
			assert.Equal(t, want, string(p[:got]), "%d from %d", n, off)

			assert.Equal(t, want, string(bytes.Join(virtio.Cut(nil, c.Readable, off, uint64(n)), nil)), "cut %d from %d", n, off)
		}
	}
	for off := range uint64(9) {
		for n := range 9 {
			clear(d.Bytes(data+100, 200))
			p := []byte("12345678")[:n]
			got := c.Write(off, p)
			assert.Equal(t, min(n, max(0, 7-int(off))), got)
			all := append(bytes.Clone(d.Bytes(data+100, 2)), d.Bytes(data+200, 5)...)
			want := make([]byte, 7)
			copy(want[min(off, 7):], p)
			assert.Equal(t, want, all, "%d at %d", n, off)
		}
	}
	assert.Zero(t, c.Read(1<<63, make([]byte, 1)))
	assert.Zero(t, c.Write(1<<63, make([]byte, 1)))
	assert.Empty(t, virtio.Cut(nil, c.Readable, 1<<63, 1<<63))
	assert.Len(t, bytes.Join(virtio.Cut(nil, c.Readable, 1, 1<<63), nil), 9)
}

// TestChainsExhaustively compares all chains of a queue of two, made of descriptors with
// all flags and a choice of addresses, lengths and links, with a plain walk of the
// specification's rules.
func TestChainsExhaustively(t *testing.T) {
	t.Parallel()
	for _, refuse := range []uint64{0, virtio.FeatureIndirectDesc} {
		d, q, dev := open(t, virtiotest.Config{QueueSize: 2, Refuse: refuse})
		d.Describe(table, data+64, 5, write, 0)
		d.Describe(table+16, data+128, 6, 0, 0)
		var kinds []descriptor
		for flags := range uint16(8) {
			for link := range uint16(3) {
				for _, addr := range []uint64{data, table, virtiotest.RAMSize - 8} {
					for _, length := range []uint32{0, 16, 32} {
						kinds = append(kinds, descriptor{addr, length, flags, link})
					}
				}
			}
		}
		var c virtio.Chain
		for i, a := range kinds {
			for k, b := range kinds {
				if a.flags&next == 0 && k > 0 {
					break // the second one does not matter
				}
				q.Describe(0, a.addr, a.length, a.flags, a.link)
				q.Describe(1, b.addr, b.length, b.flags, b.link)
				q.Offer(0)
				want, valid := reference(d, []descriptor{a, b}, refuse == 0)
				ok, err := dev.Pop(&c)
				if !valid {
					if err == nil {
						require.ErrorIs(t, err, virtio.ErrGuest, "%+v %+v", a, b)
					}
					q.Next--
					q.SetAvailable(q.Next)
					continue
				}
				if err != nil || !ok || want != [2]uint64{c.ReadableLen(), c.WritableLen()} {
					require.NoError(t, err, "%+v %+v", a, b)
					require.Equal(t, want, [2]uint64{c.ReadableLen(), c.WritableLen()}, "%d %d: %+v %+v", i, k, a, b)
				}
				require.NoError(t, dev.Push(0, 0))
			}
		}
	}
}

type descriptor struct {
	addr        uint64
	length      uint32
	flags, link uint16
}

// reference is the length of what the device may read and write, or false for a chain
// that breaks the rules of virtio 1.2 §2.7.5.
func reference(d *virtiotest.Driver, ring []descriptor, indirectAllowed bool) (sum [2]uint64, valid bool) {
	list, seen, at, inside := ring, 0, uint16(0), false
	for {
		if int(at) >= len(list) || seen == len(ring) {
			return sum, false
		}
		x := list[at]
		if x.flags&indirect != 0 {
			if !indirectAllowed || inside || x.flags&next != 0 || x.length == 0 || x.addr+uint64(x.length) > virtiotest.RAMSize {
				return sum, false
			}
			list, inside, at = nil, true, 0
			for i := range uint64(x.length / 16) {
				b := d.Bytes(x.addr+16*i, 16)
				list = append(list, descriptor{le.Uint64(b), le.Uint32(b[8:]), le.Uint16(b[12:]), le.Uint16(b[14:])})
			}
			continue
		}
		seen++
		if x.flags&write == 0 && sum[1] > 0 {
			return sum, false
		}
		if x.length > 0 && x.addr+uint64(x.length) > virtiotest.RAMSize {
			return sum, false
		}
		sum[x.flags&write/write] += uint64(x.length)
		if x.flags&next == 0 {
			return sum, true
		}
		at = x.link
	}
}
