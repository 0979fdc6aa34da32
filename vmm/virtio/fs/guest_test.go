package fs

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	// slotSize is the room of one request and its answer.
	slotSize = 4096
	slots    = 256
	hiprio   = 0
)

// guest is a driver of one share.
type guest struct {
	*virtiotest.Driver
	t    testing.TB
	dev  *Device
	q    *virtiotest.Queue // the first request queue
	next uint64            // number of the next request
}

func newGuest(t testing.TB, b Backend, cfg virtiotest.Config) *guest {
	t.Helper()
	return newGuestOf(t, Config{Backend: b, Tag: "share"}, cfg)
}

func newGuestOf(t testing.TB, c Config, cfg virtiotest.Config) *guest {
	t.Helper()
	dev, err := New(c)
	require.NoError(t, err)
	d := virtiotest.Start(t, dev, cfg)
	return &guest{Driver: d, t: t, dev: dev, q: d.Queues[1], next: 1}
}

func (g *guest) restart() {
	g.Restart()
	g.q = g.Queues[1]
}

func slot(unique uint64) uint64 { return virtiotest.DataBase + unique%slots*slotSize }

// request writes a request with a body and returns its number and its buffers: a header,
// a body and an answer in two parts.
func (g *guest) request(op uint32, body string) (uint64, []virtiotest.Buffer) {
	unique := g.next
	g.next++
	at := slot(unique)
	b := g.Bytes(at, slotSize)
	clear(b)
	binary.LittleEndian.PutUint32(b, uint32(HeaderSize+len(body)))
	binary.LittleEndian.PutUint32(b[4:], op)
	binary.LittleEndian.PutUint64(b[8:], unique)
	copy(b[HeaderSize:], body)
	bufs := []virtiotest.Buffer{{Addr: at, Len: HeaderSize}}
	if body != "" {
		bufs = append(bufs, virtiotest.Buffer{Addr: at + HeaderSize, Len: uint32(len(body))})
	}
	return unique, append(bufs, virtiotest.Buffer{Addr: at + 2048, Len: 16, Write: true}, virtiotest.Buffer{Addr: at + 2064, Len: 1024, Write: true})
}

// add makes a request available, without telling the device.
func (g *guest) add(op uint32, body string) uint64 {
	unique, bufs := g.request(op, body)
	g.q.Add(bufs...)
	return unique
}

func (g *guest) submit(op uint32, body string) uint64 {
	unique := g.add(op, body)
	g.q.Kick()
	return unique
}

// answer is what came back of a request, which is as long as that was.
func (g *guest) answer(unique uint64, n int) string { return string(g.Bytes(slot(unique)+2048, n)) }

// do carries a request out and checks that its answer is complete.
func (g *guest) do(op uint32, body string) {
	g.t.Helper()
	unique := g.submit(op, body)
	u := g.q.Wait()
	require.EqualValues(g.t, HeaderSize+len(body), u.Len)
	require.Equal(g.t, g.sent(unique, int(u.Len)), g.answer(unique, int(u.Len)))
}

func (g *guest) sent(unique uint64, n int) string { return string(g.Bytes(slot(unique), n)) }
