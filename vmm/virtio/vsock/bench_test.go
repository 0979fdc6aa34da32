package vsock

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// spin waits for the next packet of the host without allocation.
func (g *guest) spin() (header, []byte) {
	for {
		if h, p, ok := g.pollRaw(); ok {
			return h, p
		}
		g.Queues[rxQueue].Sleep()
	}
}

// pollRaw is poll without allocation: the payload is guest memory that is valid until
// the next call.
func (g *guest) pollRaw() (h header, payload []byte, ok bool) {
	q := g.Queues[rxQueue]
	u, ok := q.Take()
	if !ok {
		return header{}, nil, false
	}
	slot := g.slots[rxQueue][u.Head]
	b := g.Bytes(rxAddr(slot), int(u.Len))
	h = parseHeader((*[headerSize]byte)(b))
	g.postBuffer(slot)
	q.Kick()
	if h.op == opData {
		g.taken[h.dstPort] += h.length
	}
	return h, b[headerSize:], true
}

// raw sends a packet that lies in the tx area already, without allocation.
func (g *guest) raw(h header, n int) {
	h.srcCID, h.dstCID, h.kind, h.length = testCID, hostCID, typeStream, uint32(n)
	h.put((*[headerSize]byte)(g.Bytes(txArea, headerSize)))
	bufs := append(g.bufs[:0], virtiotest.Buffer{Addr: txArea, Len: headerSize})
	if n > 0 {
		bufs = append(bufs, virtiotest.Buffer{Addr: txArea + headerSize, Len: uint32(n)})
	}
	q := g.Queues[txQueue]
	q.Add(bufs...)
	q.Kick()
	for {
		if _, ok := q.Take(); ok {
			return
		}
		q.Sleep()
	}
}

// TestDataPathDoesNotAllocate moves packets both ways, credit updates included.
func TestDataPathDoesNotAllocate(t *testing.T) {
	g := newGuest(t)
	c := g.connect(1, 2)
	buf := make([]byte, 4000)
	step := func() {
		g.raw(header{op: opData, srcPort: 2, dstPort: 1, alloc: defaultAlloc, forwarded: g.taken[2]}, len(buf))
		if _, err := io.ReadFull(c, buf); err != nil {
			panic(err)
		}
		if _, err := c.Write(buf); err != nil {
			panic(err)
		}
		for {
			h, _ := g.spin()
			if h.op == opData {
				return
			}
		}
	}
	for range 200 {
		step()
	}
	assert.Zero(t, testing.AllocsPerRun(1000, step))
	require.NoError(t, g.failure())
}

func BenchmarkHostToGuest(b *testing.B) {
	for _, size := range []int{4052, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := newGuest(b)
			c := g.connect(1, 2)
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range b.N {
					_, _ = c.Write(buf)
				}
			}()
			for got, told := 0, 0; got < b.N*size; {
				h, p := g.spin()
				if h.op == opData {
					got += len(p)
				}
				if got-told > defaultAlloc/2 {
					told = got
					g.raw(header{op: opCreditUpdate, srcPort: 2, dstPort: 1, alloc: defaultAlloc, forwarded: g.taken[2]}, 0)
				}
			}
			<-done
		})
	}
}

func BenchmarkGuestToHost(b *testing.B) {
	for _, size := range []int{4096, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := newGuest(b)
			c := g.connect(1, 2)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 65536)
				for got := 0; got < b.N*size; {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					got += n
				}
			}()
			credit := uint32(0)
			for sent := 0; sent < b.N*size; sent += size {
				for uint32(sent)+uint32(size)-credit > bufferSize {
					h, _ := g.spin()
					credit = h.forwarded
				}
				g.raw(header{op: opData, srcPort: 2, dstPort: 1, alloc: defaultAlloc}, size)
			}
			<-done
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	g := newGuest(b)
	c := g.connect(1, 2)
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		g.raw(header{op: opData, srcPort: 2, dstPort: 1, alloc: defaultAlloc, forwarded: g.taken[2]}, len(buf))
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		g.spin()
	}
}

// BenchmarkConnect opens and closes a connection from the guest.
func BenchmarkConnect(b *testing.B) {
	g := newGuest(b)
	g.acceptAll()
	b.ReportAllocs()
	for b.Loop() {
		g.raw(header{op: opRequest, srcPort: 2, dstPort: 1, alloc: defaultAlloc}, 0)
		c := <-g.conns
		g.spin()
		g.raw(header{op: opShutdown, flags: shutdownBoth, srcPort: 2, dstPort: 1, alloc: defaultAlloc}, 0)
		g.spin()
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestIdleConnectionsAreCheap bounds the memory of many connections that have carried
// data and wait for more.
func TestIdleConnectionsAreCheap(t *testing.T) {
	g := newGuest(t)
	const n = 500
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]*Conn, n)
	for i := range conns {
		conns[i] = g.connect(1, uint32(i))
		g.data(1, uint32(i), make([]byte, 60000))
		_, err := io.ReadFull(conns[i], make([]byte, 60000))
		require.NoError(t, err)
		require.NoError(t, conns[i].SetReadDeadline(time.Unix(1, 0)))
		_, _ = conns[i].Read(make([]byte, 1))
		require.NoError(t, conns[i].SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err = conns[i].Read(make([]byte, 1)) // it waits, and so gives its buffer up
		require.Error(t, err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	assert.Less(t, each, int64(4<<10), "bytes for each idle connection")
	runtime.KeepAlive(conns)
}
