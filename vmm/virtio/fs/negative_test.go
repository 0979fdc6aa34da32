package fs

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// TestShortRequests come back without an answer: nobody knows what it would belong to
// (N76).
func TestShortRequests(t *testing.T) {
	t.Parallel()
	f := &fake{}
	g := newGuest(t, f, virtiotest.Config{})
	for n := range uint32(HeaderSize) {
		_, bufs := g.request(opLookup, "name")
		bufs[0].Len = n
		u := g.q.Do(bufs[0], bufs[2])
		assert.Zero(t, u.Len, "%d bytes", n)
	}
	_, bufs := g.request(opLookup, "name")
	assert.Zero(t, g.q.Do(bufs[2]).Len, "no request at all")
	assert.Empty(t, f.ended())
	assert.False(t, g.NeedsReset())
	g.do(opLookup, "name")
}

// TestHeaderInPieces is put together.
func TestHeaderInPieces(t *testing.T) {
	t.Parallel()
	f := &fake{}
	g := newGuest(t, f, virtiotest.Config{})
	unique, bufs := g.request(opLookup, "name")
	var pieces []virtiotest.Buffer
	for i := range uint64(HeaderSize) {
		pieces = append(pieces, virtiotest.Buffer{Addr: bufs[0].Addr + i, Len: 1})
	}
	u := g.q.Do(append(pieces, bufs[1:]...)...)
	assert.EqualValues(t, HeaderSize+4, u.Len)
	assert.Equal(t, []uint64{unique}, f.ended())
}

// TestBrokenQueues end the device's work, on whichever queue it is, until a reset.
func TestBrokenQueues(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string]func(*guest) []virtiotest.Buffer{
		"out of memory": func(g *guest) []virtiotest.Buffer {
			return []virtiotest.Buffer{{Addr: virtiotest.RAMSize - 8, Len: HeaderSize}}
		},
		"wraps": func(g *guest) []virtiotest.Buffer {
			return []virtiotest.Buffer{{Addr: math.MaxUint64 - 8, Len: HeaderSize}}
		},
		"answer before the request": func(g *guest) []virtiotest.Buffer {
			_, bufs := g.request(opLookup, "")
			return []virtiotest.Buffer{bufs[1], bufs[0]}
		},
	} {
		for queue := range 2 {
			f := &fake{}
			g := newGuest(t, f, virtiotest.Config{})
			g.Queues[queue].Add(chain(g)...)
			g.Queues[queue].Notify()
			assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest, name)
			g.add(opLookup, "name")
			g.q.Notify()
			time.Sleep(time.Millisecond)
			assert.Empty(t, f.ended(), name)
			g.restart()
			g.do(opLookup, "name")
		}
	}
}

// TestSameHeadTwice offers a chain again while the device has it (N55).
func TestSameHeadTwice(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	f := &fake{gates: map[uint32]func(){opFsync: func() { <-release }}}
	g := newGuest(t, f, virtiotest.Config{})
	_, bufs := g.request(opFsync, "")
	head := g.q.Add(bufs...)
	g.q.Notify()
	g.Eventually(func() bool { return f.running.Load() == 1 }, "the request")
	g.q.Offer(head)
	g.q.Notify()
	assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest)
	close(release)
	g.restart()
	g.do(opLookup, "name")
}

// TestGuestRewritesAHeader while the device has it: the server sees one header (N29).
func TestGuestRewritesAHeader(t *testing.T) {
	t.Parallel()
	f := &fake{}
	g := newGuest(t, f, virtiotest.Config{})
	unique, bufs := g.request(opLookup, "name")
	b := g.Bytes(slot(unique), HeaderSize)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := uint32(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				binary.LittleEndian.PutUint32(b, i*0x1234567)
				binary.LittleEndian.PutUint32(b[4:], []uint32{opLookup, opRead, opFsync, opForget, opSyncFS}[i%5])
			}
		}
	}()
	for range 500 {
		g.q.Do(bufs...)
	}
	close(stop)
	<-stopped
	assert.False(t, g.NeedsReset())
	assert.Len(t, f.ended(), 500)
}
