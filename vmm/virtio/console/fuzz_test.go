package console

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// FuzzDevice lets the guest write to any queue, and the host resize and pause. Each step
// is 8 bytes of the input: what and where, and a control message. Whatever comes, a good
// guest is served afterwards.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0, 1})
	f.Add([]byte{0, 1, 0, 0, 0, 3, 1, 0, 0, 1, 0, 0, 0, 6, 1, 0, 1, 5, 9, 9, 9, 9, 9, 9})
	f.Fuzz(func(t *testing.T, input []byte) {
		var out counter
		d, err := New(Config{Size: Size{80, 24}, Ports: []Port{{Console: true, Output: &out}, {Name: "x", Output: &out, Input: endless{}}}})
		require.NoError(t, err)
		const at = 0x30000
		g := virtiotest.Start(t, d, virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 0x40000}}})
		for i := 0; i < 100 && len(input) >= 8; i, input = i+1, input[8:] {
			what, queue := input[0], g.Queues[int(input[1])%len(g.Queues)]
			n := uint32(binary.LittleEndian.Uint16(input[6:])) & 0xfff
			g.Write(at, []byte{input[1] >> 4, 0, 0, 0, input[2], input[3], input[4], 0})
			switch {
			case what == 255:
				g.MMIO.Pause()
				_, err := g.MMIO.SaveState()
				require.NoError(t, err)
				g.MMIO.Resume()
			case what == 254:
				d.Resize(Size{uint16(input[2]), uint16(input[3])})
			case what == 253:
				queue.SetAvailable(binary.LittleEndian.Uint16(input[4:]))
			case queue.Free() >= 3:
				queue.Add(
					virtiotest.Buffer{Addr: at, Len: n, Write: what&1 != 0},
					virtiotest.Buffer{Addr: at + uint64(input[5]), Len: uint32(input[4]), Write: what&3 != 0},
					virtiotest.Buffer{Addr: uint64(input[2]) << 12, Len: uint32(input[3]), Write: what&4 != 0},
				)
			}
			queue.Notify()
			for {
				if _, ok := queue.Take(); !ok {
					break
				}
			}
		}
		g.Restart()
		before := out.bytes()
		g.Queues[5].Do(virtiotest.Buffer{Addr: at, Len: 9})
		g.Eventually(func() bool { return out.bytes() >= before+9 }, "the console works")
		require.NoError(t, g.MMIO.Failure())
	})
}

// FuzzState restores any bytes.
func FuzzState(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 80, 0, 24, 0, 2, 0, 0, 0, 3, 0, 3, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		d, err := New(Config{Size: Size{80, 24}, Ports: []Port{{Console: true}, {Name: "x"}}})
		require.NoError(t, err)
		if d.RestoreState(input) != nil {
			return
		}
		again, err := d.SaveState()
		require.NoError(t, err)
		require.Len(t, again, len(input))
		g := virtiotest.Start(t, d, virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 0x40000}}})
		g.Queues[5].Do(virtiotest.Buffer{Addr: 0x30000, Len: 9})
	})
}
