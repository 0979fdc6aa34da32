package fs

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// fuzzInput hands out the bytes of a fuzz target's input, zeros after its end.
type fuzzInput []byte

func (f *fuzzInput) u(n int) (v uint64) {
	var b [8]byte
	*f = (*f)[copy(b[:n], *f):]
	return binary.LittleEndian.Uint64(b[:])
}

// FuzzFSRequests sends chains of any shape on both queues. Each must come back, or break
// the device.
func FuzzFSRequests(f *testing.F) {
	f.Add([]byte{1, 1, 40, 1, 2, 4, 0, 0, 0, 0, 100, 0, 1, 9})
	f.Add([]byte{0, 0, 40, 2, 1, 8, 0, 0, 0, 0})
	f.Add([]byte{1, 1, 0, 33, 3, 4, 0, 0, 0, 0, 100, 0, 1, 9, 255, 255, 3, 3})
	f.Add([]byte{1, 1, 40, 50, 1, 16, 0, 1, 7, 1, 1, 40, 20, 1, 16, 0, 1, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := fuzzInput(b)
		ram := []memory.Range{{Base: 0, Size: 1 << 20}}
		dev, err := New(Config{Backend: &fake{}, Tag: "x"})
		require.NoError(t, err)
		d := virtiotest.Start(t, dev, virtiotest.Config{RAM: ram, QueueSize: 16, Indirect: in.u(1)&1 != 0})
		const header, data = 1 << 18, 1<<18 + 4096
		d.Write(data, b[:min(len(b), 1<<16)])
		for range 20 {
			if len(in) == 0 || d.NeedsReset() {
				break
			}
			q := d.Queues[in.u(1)&1]
			n := uint32(in.u(1))
			binary.LittleEndian.PutUint32(d.Bytes(header, 4), n)
			binary.LittleEndian.PutUint32(d.Bytes(header+4, 4), uint32(in.u(1)))
			bufs := []virtiotest.Buffer{{Addr: header, Len: n}}
			for range in.u(1) % 12 {
				length, flags, addr := uint32(in.u(2)), in.u(1), in.u(1)
				bufs = append(bufs, virtiotest.Buffer{Addr: data + addr<<(flags>>3), Len: length, Write: flags&1 != 0})
			}
			q.Add(bufs...)
			q.Notify()
			done := false
			d.Eventually(func() bool {
				_, done = q.Take()
				return done || d.NeedsReset()
			}, "an answer")
		}
		start := time.Now()
		d.MMIO.Pause()
		d.MMIO.Resume()
		d.Store(virtiotest.RegStatus, 0)
		require.Less(t, time.Since(start), 10*time.Second)
	})
}
