package virtio_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// smallRAM has a hole, and two regions that touch.
var smallRAM = []memory.Range{{Base: 0, Size: 0x14000}, {Base: 0x14000, Size: 0x2000}, {Base: 0x20000, Size: 0x1000}}

// FuzzQueue fills rings, descriptors and a table with the input and lets the device take
// and return chains, while it rewrites the rings with more of the input between two of
// them. The first byte chooses features and size.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0x40, 1, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append([]byte{7}, make([]byte, 400)...))
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 {
			return
		}
		cfg := virtiotest.Config{RAM: smallRAM, QueueSize: 1 << (input[0] & 3), Refuse: uint64(input[0]>>2&3) << 28}
		d, q, dev := open(t, cfg)
		input = input[1:]
		var c virtio.Chain
		buf := make([]byte, 100)
		for range 64 {
			n := q.Size
			input = input[copy(d.Bytes(q.Desc, 16*int(n)), input):]
			input = input[copy(d.Bytes(q.Avail+4, 2*int(n)+2), input):]
			input = input[copy(d.Bytes(0x14000-32, 32), input):]
			q.Next++
			if len(input) > 1 && input[0] == 0 {
				q.Next = uint16(input[1])
				input = input[2:]
			}
			q.SetAvailable(q.Next)
			dev.DisableKicks()
			for range 4 {
				ok, err := dev.Pop(&c)
				if err != nil {
					require.ErrorIs(t, err, virtio.ErrGuest)
					return
				}
				if !ok {
					break
				}
				require.Equal(t, c.ReadableLen(), total(c.Readable))
				require.Equal(t, c.WritableLen(), total(c.Writable))
				require.LessOrEqual(t, len(c.Readable)+len(c.Writable), int(n))
				written := c.Write(0, buf[:c.Read(1, buf)])
				require.NoError(t, dev.Push(c.Head, uint32(written)))
			}
			require.NoError(t, dev.Notify())
			if _, err := dev.EnableKicks(); err != nil {
				require.ErrorIs(t, err, virtio.ErrGuest)
				return
			}
			if len(input) == 0 {
				return
			}
		}
	})
}

// FuzzMMIO carries out a sequence of register accesses of a device that returns every
// chain. Each access is 7 bytes: what it is, where, and the value.
func FuzzMMIO(f *testing.F) {
	f.Add([]byte{0, 0x70, 0, 3, 0, 0, 0, 0, 0x70, 0, 11, 0, 0, 0, 0, 0x70, 0, 15, 0, 0, 0})
	f.Add([]byte{8, 0x70, 0, 0, 0, 0, 0, 0, 0x50, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		dev := serve(false, size, 4)
		dev.Space = make([]byte, 12)
		d := virtiotest.New(t, dev, virtiotest.Config{RAM: smallRAM})
		if len(input) > 0 && input[0]&8 != 0 {
			d.Restart()
			d.Queues[0].Add(in(0x13000, 5))
		}
		for i := 0; i < 200 && len(input) >= 7; i, input = i+1, input[7:] {
			off := uint64(le.Uint16(input[1:]) & 0x1ff)
			if input[0]&4 != 0 {
				off &^= 3
			}
			p := input[3:7]
			p = p[:[]int{4, 4, 1, 2}[input[0]>>4&3]]
			switch input[0] & 3 {
			case 0, 1:
				d.MMIO.Write(off, p)
			case 2:
				d.MMIO.Read(off, append([]byte(nil), p...))
			case 3:
				d.MMIO.Pause()
				d.MMIO.Resume()
			}
		}
		d.Restart()
		d.Queues[0].Do(in(0x13000, 5))
		require.NoError(t, d.MMIO.Failure())
	})
}

// FuzzState restores any bytes; a device that takes them can be used and reset.
func FuzzState(f *testing.F) {
	s := busy(f)
	f.Add(s.State)
	f.Fuzz(func(t *testing.T, input []byte) {
		dev := fresh()
		d := virtiotest.New(t, dev, small)
		if err := d.MMIO.RestoreState(input); err != nil {
			require.ErrorIs(t, err, virtio.ErrState)
			return
		}
		use(t, d, dev)
	})
}
