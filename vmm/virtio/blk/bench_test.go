package blk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// BenchmarkRead4K is a guest that waits for one page after the other, as at boot.
func BenchmarkRead4K(b *testing.B) {
	const pages = 4096
	g := newGuest(b, openRaw(b, image(b, noise(pages*4096)), true), virtiotest.Config{Indirect: true})
	b.SetBytes(4096)
	b.ReportAllocs()
	h, s := g.header(0, kindRead, 0), g.status(0)
	n := uint64(0)
	for b.Loop() {
		g.header(0, kindRead, n%pages*8)
		g.q.Add(h, in(0, 4096), s)
		g.q.Kick()
		for {
			if _, ok := g.q.Take(); ok {
				break
			}
			g.q.Sleep()
		}
		n++
	}
	require.Equal(b, statusOK, g.result(0))
}

// BenchmarkRead4KSyscall is what of that the host's kernel takes.
func BenchmarkRead4KSyscall(b *testing.B) {
	const pages = 4096
	disk := openRaw(b, image(b, noise(pages*4096)), true)
	b.SetBytes(4096)
	list := [][]byte{make([]byte, 4096)}
	n := uint64(0)
	for b.Loop() {
		if err := disk.ReadV(n%pages*4096, list); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// BenchmarkWrite64M writes 64 MiB in requests of 512 KiB, eight of them in flight, and
// then flushes.
func BenchmarkWrite64M(b *testing.B) {
	const total, size, depth = 64 << 20, 512 << 10, 8
	path := filepath.Join(b.TempDir(), "disk")
	f, err := os.Create(path)
	require.NoError(b, err)
	require.NoError(b, f.Truncate(total))
	require.NoError(b, f.Close())
	g := newGuest(b, openRaw(b, path, false), virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 32 << 20}}, Indirect: true})
	var bufs [2 + size/4096]virtiotest.Buffer
	submit := func(slot, sector int) {
		bufs[0] = g.header(slot, kindWrite, uint64(sector))
		for i := range size / 4096 {
			bufs[1+i] = out(uint64(slot*size+i*4096), 4096)
		}
		bufs[len(bufs)-1] = g.status(slot)
		g.q.Add(bufs[:]...)
		g.q.Kick()
	}
	b.SetBytes(total)
	for b.Loop() {
		for done, sent := 0, 0; done < total/size; {
			for ; sent < total/size && sent-done < depth; sent++ {
				submit(sent%depth, sent*size/SectorSize)
			}
			if _, ok := g.q.Take(); ok {
				done++
				continue
			}
			g.q.Sleep()
		}
		g.ok(kindFlush, 0)
	}
}
