package net

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	sendArea    = virtiotest.DataBase
	receiveArea = virtiotest.DataBase + 1<<20
	slotSize    = 4096
)

var mac = [6]byte{2, 0x6d, 0x73, 0, 1, 2}

// cable remembers what the guest sent and delivers what waits, when there is room.
type cable struct {
	mu    sync.Mutex
	dev   *Device
	sent  []Offload
	bytes [][]byte
	waits [][]byte
	ready int
}

func (c *cable) Transmit(o Offload, frame [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, o)
	c.bytes = append(c.bytes, bytes.Join(frame, nil))
}

func (c *cable) Ready() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready++
	c.deliver()
}

// deliver sends what waits; mu is held.
func (c *cable) deliver() {
	for len(c.waits) > 0 && c.dev.Deliver(Offload{}, [][]byte{c.waits[0]}) {
		c.waits = c.waits[1:]
	}
	c.dev.Flush()
}

// queue delivers a frame now or later.
func (c *cable) queue(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, frame)
	c.deliver()
}

func (c *cable) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.bytes)
}

// guest plays the driver.
type guest struct {
	*Device
	*virtiotest.Driver
	t     testing.TB
	cable *cable
	slots map[uint16]uint64 // receive buffers by head
	size  uint32            // of each
}

func newDevice(t testing.TB) (*Device, *cable) {
	t.Helper()
	c := &cable{}
	d, err := New(Config{MAC: mac, MTU: 1500, Backend: c})
	require.NoError(t, err)
	c.dev = d
	return d, c
}

// newGuest starts a device; buffers to receive are of size bytes, and none is there yet.
func newGuest(t testing.TB, size uint32, cfg virtiotest.Config) *guest {
	t.Helper()
	d, c := newDevice(t)
	return &guest{t: t, Device: d, cable: c, Driver: virtiotest.Start(t, d, cfg), slots: map[uint16]uint64{}, size: size}
}

// post gives the device n buffers.
func (g *guest) post(n int) {
	q := g.Queues[receiveQueue]
	for i := range n {
		addr := receiveArea + uint64((int(q.Next)+i)%256)*slotSize
		g.slots[q.Add(virtiotest.Buffer{Addr: addr, Len: g.size, Write: true})] = addr
	}
	q.Kick()
}

// receive waits for a frame and returns it with its header; its buffers are not posted
// again.
func (g *guest) receive() (Offload, []byte) {
	g.t.Helper()
	q := g.Queues[receiveQueue]
	first := g.take(q.Wait())
	require.GreaterOrEqual(g.t, len(first), headerSize)
	header := [headerSize]byte(first)
	frame := bytes.Clone(first[headerSize:])
	for n := int(header[10]) | int(header[11])<<8; n > 1; n-- {
		u, ok := q.Take()
		require.True(g.t, ok, "all buffers of a frame come at once")
		frame = append(frame, g.take(u)...)
	}
	return parseHeader(&header), frame
}

func (g *guest) take(u virtiotest.Used) []byte {
	return g.Bytes(g.slots[u.Head], int(u.Len))
}

// send makes a chain of header and frame, in parts of the given sizes and a last one with
// the rest, and waits until the device has taken it.
func (g *guest) send(header [headerSize]byte, frame []byte, cuts ...int) {
	g.t.Helper()
	b := append(header[:], frame...)
	g.Write(sendArea, b)
	var bufs []virtiotest.Buffer
	at := 0
	for _, n := range append(cuts, len(b)) {
		n = min(n, len(b)-at)
		bufs = append(bufs, virtiotest.Buffer{Addr: sendArea + uint64(at), Len: uint32(n)})
		at += n
	}
	require.Zero(g.t, g.Queues[transmitQueue].Do(bufs...).Len)
}

// pattern is a frame of n bytes.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}
