package blk

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
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

// FuzzBlkRequests sends chains of any shape. Each must come back with a status, or break
// the queue; the backend, which is exact about its bounds, must never see what is wrong.
func FuzzBlkRequests(f *testing.F) {
	valid := func(k kind, sector uint64, bufs ...uint64) []byte {
		b := append([]byte{1, headerSize}, byte(k))
		b = binary.LittleEndian.AppendUint64(b, sector)
		b = append(b, byte(len(bufs)))
		for _, n := range bufs {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
			b = append(b, byte(n>>32))
			b = binary.LittleEndian.AppendUint16(b, 0)
		}
		return b
	}
	const write = 1 << 32
	f.Add(valid(kindRead, 1, 512|write, 1|write))
	f.Add(append(valid(kindWrite, 2, 1024, 1|write), valid(kindFlush, 0, 1|write)...))
	f.Add(append(valid(kindDiscard, 0, 16, 1|write), valid(kindWriteZeroes, 0, 32, 1|write)...))
	f.Add(valid(kindGetID, 0, 20|write, 1|write))
	f.Add(valid(kindRead, 63, 1024|write, 1|write))
	f.Add([]byte{0, 3, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := fuzzInput(b)
		disk := newFake(64)
		ram := []memory.Range{{Base: 0, Size: 1 << 19}}
		dev, err := New(Config{Backend: disk})
		require.NoError(t, err)
		d := virtiotest.Start(t, dev, virtiotest.Config{RAM: ram, QueueSize: 16, Indirect: in.u(1)&1 != 0})
		q := d.Queues[0]
		const header, data = 1 << 18, 1<<18 + 4096
		d.Write(data, b[:min(len(b), 1<<16)])
		for range 20 {
			if len(in) == 0 || d.NeedsReset() {
				break
			}
			n := uint32(in.u(1)) % 32
			binary.LittleEndian.PutUint32(d.Bytes(header, 4), uint32(in.u(1)))
			binary.LittleEndian.PutUint64(d.Bytes(header+8, 8), in.u(8))
			bufs := []virtiotest.Buffer{{Addr: header, Len: n}}
			for range in.u(1) % 12 {
				length, flags, addr := uint32(in.u(4)), in.u(1), in.u(2)
				if flags&2 == 0 {
					length %= 1 << 14
				}
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
		d.MMIO.Pause()
		require.Zero(t, disk.running.Load())
		d.MMIO.Resume()
		start := time.Now()
		d.Store(virtiotest.RegStatus, 0)
		require.Less(t, time.Since(start), 10*time.Second)
		require.Len(t, disk.data, 64*SectorSize)
	})
}

// FuzzVMDK parses any text. What it takes must be a disk, and mean the same when it is
// written again.
func FuzzVMDK(f *testing.F) {
	f.Add([]byte(observed))
	f.Add([]byte(head + "RDONLY 4194304 FLAT \"/a b/c\" 4194304\r\nRW 1 ZERO\nRW 7 FLAT \"/d\" 0"))
	f.Add([]byte(head + "NOACCESS 1 SPARSE \"../x\" -1\nparentFileNameHint=\"/etc/shadow\"\n"))
	f.Add([]byte("KDMV"))
	f.Fuzz(func(t *testing.T, text []byte) {
		extents, err := parseVMDK(text)
		if err != nil {
			require.Nil(t, extents)
			return
		}
		again := head
		var total uint64
		for _, e := range extents {
			require.NotZero(t, e.sectors)
			if total += e.sectors; e.path == "" {
				again += fmt.Sprintf("RW %d ZERO\n", e.sectors)
				continue
			}
			require.True(t, filepath.IsAbs(e.path))
			again += fmt.Sprintf("RW %d FLAT \"%s\" %d\n", e.sectors, e.path, e.offset)
		}
		require.LessOrEqual(t, total, uint64(maxDisk))
		got, err := parseVMDK([]byte(again))
		require.NoError(t, err)
		require.Equal(t, extents, got)
	})
}
