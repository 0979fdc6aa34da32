package net

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// FuzzDevice lets the guest write to either queue, and the host deliver and pause. Each
// step is 8 bytes of the input. Whatever comes, a good guest is served afterwards.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 1, 12, 0, 60, 0, 0, 0, 1, 0, 12, 0, 200, 0, 0, 0, 2, 100, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 12, 0, 1, 0, 0, 0, 2, 255, 255, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 8, 0, 8, 0, 0})
	f.Add([]byte{0, 1, 255, 255, 255, 255, 9, 9, 4, 0, 3, 3, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		const at = 0x30000
		if len(input) == 0 {
			return
		}
		cfg := virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 0x60000}}, QueueSize: 16}
		if input[0]&128 != 0 {
			cfg.Refuse = featureMergeable
		}
		d, c := newDevice(t)
		g := virtiotest.Start(t, d, cfg)
		frame := pattern(MaxFrame)
		for i := 0; i < 100 && len(input) >= 8; i, input = i+1, input[8:] {
			x, y := binary.LittleEndian.Uint16(input[2:]), binary.LittleEndian.Uint16(input[4:])
			q := g.Queues[input[1]&1]
			switch input[0] & 7 {
			case 0, 1:
				g.Write(at, input[:min(12, len(input))])
				if q.Free() >= 2 {
					q.Add(virtiotest.Buffer{Addr: at, Len: uint32(x), Write: input[1]&2 != 0 || q.Index == 0},
						virtiotest.Buffer{Addr: at + uint64(input[6])<<8, Len: uint32(y), Write: q.Index == 0 || input[1]&4 != 0})
				}
				q.Notify()
			case 2:
				n := int(x) | int(input[1]&1)<<16
				o := Offload{NeedsChecksum: input[6]&1 != 0, ChecksumStart: y, GSO: GSO(input[6] >> 1 & 7), SegmentSize: uint16(input[7])}
				d.Deliver(o, [][]byte{frame[:min(n, len(frame))]})
				d.Flush()
			case 3:
				g.MMIO.Pause()
				_, err := g.MMIO.SaveState()
				require.NoError(t, err)
				g.MMIO.Resume()
			case 4:
				q.SetAvailable(x)
				q.Notify()
			}
			for {
				if _, ok := q.Take(); !ok {
					break
				}
			}
		}
		g.Restart()
		before := c.count()
		g.Write(at, make([]byte, 12))
		g.Queues[transmitQueue].Do(virtiotest.Buffer{Addr: at, Len: 12 + 60})
		require.Equal(t, before+1, c.count())
		g.Queues[receiveQueue].Add(virtiotest.Buffer{Addr: at, Len: 2048, Write: true})
		g.Queues[receiveQueue].Kick()
		c.queue(pattern(60))
		require.EqualValues(t, 72, g.Queues[receiveQueue].Wait().Len)
		require.NoError(t, g.MMIO.Failure())
	})
}

// FuzzState restores any bytes.
func FuzzState(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0x6d, 0x73, 0, 1, 2})
	f.Fuzz(func(t *testing.T, input []byte) {
		d, _ := newDevice(t)
		if d.RestoreState(input) != nil {
			return
		}
		again, err := d.SaveState()
		require.NoError(t, err)
		require.Equal(t, input, again)
	})
}
