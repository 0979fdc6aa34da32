package balloon

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// FuzzBalloonRequests sends any bytes to any queue. Each chain comes back or breaks the
// device, and memory that no request named keeps what it held.
func FuzzBalloonRequests(f *testing.F) {
	f.Add([]byte{0, 8, 64, 0, 0, 0, 65, 0, 0, 0})
	f.Add([]byte{1, 4, 255, 255, 255, 255, 0, 0})
	f.Add([]byte{2, 20, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{3, 2, 128, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		const list, keep = 0x40000, 0x7f000 // page 127
		dev, err := New(Config{StatsInterval: time.Millisecond})
		require.NoError(t, err)
		d := virtiotest.Start(t, dev, virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 0x80000}}})
		for i := range d.Bytes(keep, 4096) {
			d.Bytes(keep, 4096)[i] = 0x5a
		}
		for n := 0; len(b) > 2 && n < 10 && !d.NeedsReset(); n++ {
			i, size := b[0]%4, min(int(b[1]), len(b)-2)
			payload := b[2 : 2+size]
			b = b[2+size:]
			q := d.Queues[i]
			switch i {
			case inflateQueue, deflateQueue:
				// The driver must not lose its rings here, nor what is to be kept.
				for at := 0; at+4 <= len(payload); at += 4 {
					if p := binary.LittleEndian.Uint32(payload[at:]); p < 0x40 || p == 127 {
						payload[at] = 0x70
						payload[at+1] = 1
					}
				}
				fallthrough
			case statsQueue:
				d.Write(list, payload)
				q.Add(virtiotest.Buffer{Addr: list, Len: uint32(len(payload) / 2)}, virtiotest.Buffer{Addr: list + uint64(len(payload)/2), Len: uint32((len(payload) + 1) / 2)})
			default:
				bufs := []virtiotest.Buffer{{Addr: list, Len: 0, Write: true}}
				for at := 0; at+2 <= len(payload) && at < 32; at += 2 {
					addr, n := 0x41000+uint64(payload[at])<<8, uint32(payload[at+1])<<8
					bufs = append(bufs, virtiotest.Buffer{Addr: addr, Len: min(n, uint32(keep-addr)), Write: true})
				}
				q.Add(bufs...)
			}
			q.Notify()
			d.Eventually(func() bool {
				_, ok := q.Take()
				return ok || d.NeedsReset()
			}, "an answer")
		}
		d.MMIO.Pause()
		for _, v := range d.Bytes(keep, 4096) {
			require.EqualValues(t, 0x5a, v)
		}
	})
}

// FuzzBalloonStats parses any report.
func FuzzBalloonStats(f *testing.F) {
	f.Add([]byte{4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := parseStats(b)
		if used, ok := s.Used(); ok {
			require.LessOrEqual(t, used, s.Total)
		}
		for tag := range knownTags {
			v := *s.field(tag)
			if s.Has(tag) {
				found := false
				for i := 0; i+entrySize <= len(b); i += entrySize {
					found = found || Tag(binary.LittleEndian.Uint16(b[i:])) == tag && binary.LittleEndian.Uint64(b[i+2:]) == v
				}
				require.True(t, found)
			} else {
				require.Zero(t, v)
			}
		}
	})
}
