package vsock

import (
	"context"
	"io"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	testCID  = 42
	watchdog = 20 * time.Second
	quiet    = 15 * time.Millisecond

	rxArea, eventArea, txArea = 0x100000, 0xf0000, 0x800000
	rxBuffers                 = 32
	rxStride                  = 0x1000
	eventBuffers              = 4
	defaultAlloc              = 256 << 10
)

// guest plays the driver and the programs of a guest against a Device.
type guest struct {
	*Device
	*virtiotest.Driver
	t          testing.TB
	accept     atomic.Pointer[func(uint32, *Conn) bool]
	conns      chan *Conn
	bufferSize uint32
	forge      func(*header) // last change to a packet to be sent
	autoCredit bool

	taken, told, alloc map[uint32]uint32 // by guest port: bytes received, told so, and the window
	cursor             uint64            // next free byte of the tx area
	hoarding           bool
	hoarded            []uint16                     // rx buffers withheld
	events             []uint16                     // event buffers that came back
	sentRequest        header                       // of the last dial
	slots              [eventQueue + 1][1024]uint16 // rx and event buffer by head
	bufs               [2]virtiotest.Buffer         // scratch
}

type bufferOf uint32

type packet struct {
	h       header
	payload []byte
}

// newGuest starts a device and its driver. Options are func(*Device), bufferOf and
// virtiotest.Config.
func newGuest(t testing.TB, options ...any) *guest {
	g := &guest{t: t, conns: make(chan *Conn, 2000), bufferSize: 4096}
	g.build(options...)
	g.restart()
	return g
}

func (g *guest) build(options ...any) {
	d, err := New(Config{GuestCID: testCID, Listener: func(port uint32, c *Conn) bool { return (*g.accept.Load())(port, c) }})
	require.NoError(g.t, err)
	cfg := virtiotest.Config{}
	for _, o := range options {
		switch o := o.(type) {
		case func(*Device):
			o(d)
		case virtiotest.Config:
			cfg = o
		case bufferOf:
			g.bufferSize = uint32(o)
		default:
			require.Fail(g.t, "option")
		}
	}
	g.Device, g.Driver = d, virtiotest.New(g.t, d, cfg)
}

// restart is a reset and a new driver.
func (g *guest) restart() {
	g.taken, g.told, g.alloc = map[uint32]uint32{}, map[uint32]uint32{}, map[uint32]uint32{}
	g.hoarding, g.hoarded, g.events = false, nil, nil
	g.Restart()
	for slot := range uint16(rxBuffers) {
		g.postBuffer(slot)
	}
	g.Queues[rxQueue].Kick()
	for slot := range uint16(eventBuffers) {
		g.events = append(g.events, slot)
	}
	g.repostEvents()
}

// postBuffer offers an rx buffer, the header in a descriptor of its own.
func (g *guest) postBuffer(slot uint16) {
	addr := rxAddr(slot)
	first := min(g.bufferSize, headerSize)
	bufs := append(g.bufs[:0], virtiotest.Buffer{Addr: addr, Len: first, Write: true})
	if g.bufferSize > first {
		bufs = append(bufs, virtiotest.Buffer{Addr: addr + uint64(first), Len: g.bufferSize - first, Write: true})
	}
	g.slots[rxQueue][g.Queues[rxQueue].Add(bufs...)] = slot
}

func rxAddr(slot uint16) uint64 { return rxArea + uint64(slot)*rxStride }

// post makes a packet available and kicks. Addresses, type and length are filled in.
func (g *guest) post(h header, payload []byte) { g.postSplit(h, payload, nil) }

func (g *guest) postSplit(h header, payload []byte, sizes []int) {
	h.srcCID, h.dstCID, h.kind, h.length = testCID, hostCID, typeStream, uint32(len(payload))
	if g.forge != nil {
		g.forge(&h)
	}
	var b [headerSize]byte
	h.put(&b)
	whole := append(b[:], payload...)
	if g.cursor+uint64(len(whole)) > virtiotest.RAMSize-txArea {
		g.cursor = 0
	}
	addr := txArea + g.cursor
	g.Write(addr, whole)
	if sizes == nil {
		sizes = []int{headerSize}
		if len(payload) > 0 {
			sizes = append(sizes, len(payload))
		}
	}
	var bufs []virtiotest.Buffer
	for _, n := range sizes {
		bufs = append(bufs, virtiotest.Buffer{Addr: addr, Len: uint32(n)})
		addr += uint64(n)
	}
	g.cursor += uint64(len(whole))
	g.Queues[txQueue].Add(bufs...)
	g.Queues[txQueue].Kick()
}

// used is the number of tx chains that the device has given back since the last reap.
func (g *guest) used(queue int) int {
	q := g.Queues[queue]
	return int(q.UsedIndex() - q.Seen)
}

// reap takes all tx chains back.
func (g *guest) reap() {
	q := g.Queues[txQueue]
	g.eventually(func() bool {
		for {
			u, ok := q.Take()
			if !ok {
				return q.Free() == int(q.Size)
			}
			assert.Zero(g.t, u.Len, "nothing is written to a packet of the guest")
		}
	})
}

// send is post, and waits until the device has taken the packet.
func (g *guest) send(h header, payload []byte) {
	g.post(h, payload)
	g.reap()
}

func (g *guest) sendSplit(h header, sizes []int) {
	g.postSplit(h, nil, sizes)
	g.reap()
}

// sendAll makes several packets available at once.
func (g *guest) sendAll(packets ...packet) {
	for _, p := range packets {
		g.post(p.h, p.payload)
	}
	g.reap()
}

// data sends bytes on a connection, with what the guest has taken and its window.
func (g *guest) data(host, port uint32, p []byte) {
	g.send(g.header(opData, host, port), p)
}

func (g *guest) header(op operation, host, port uint32) header {
	alloc, ok := g.alloc[port]
	if !ok {
		alloc = defaultAlloc
	}
	g.told[port] = g.taken[port]
	return header{op: op, srcPort: port, dstPort: host, alloc: alloc, forwarded: g.taken[port]}
}

// window changes the buffer that the guest grants.
func (g *guest) window(host, port, alloc uint32) {
	g.alloc[port] = alloc
	g.send(g.header(opCreditUpdate, host, port), nil)
}

// update sends a credit update with the values given.
func (g *guest) update(host, port, alloc, forwarded uint32) {
	g.send(header{op: opCreditUpdate, srcPort: port, dstPort: host, alloc: alloc, forwarded: forwarded}, nil)
}

// poll is the next packet from the host, if there is one.
func (g *guest) poll() (h header, payload []byte, ok bool) {
	q := g.Queues[rxQueue]
	u, ok := q.Take()
	if !ok {
		return header{}, nil, false
	}
	require.GreaterOrEqual(g.t, u.Len, uint32(headerSize))
	require.LessOrEqual(g.t, u.Len, g.bufferSize)
	slot := g.slots[rxQueue][u.Head]
	b := slices.Clone(g.Bytes(rxAddr(slot), int(u.Len)))
	h = parseHeader((*[headerSize]byte)(b))
	payload = b[headerSize:]
	require.EqualValues(g.t, len(payload), h.length)
	assert.EqualValues(g.t, hostCID, h.srcCID)
	assert.EqualValues(g.t, testCID, h.dstCID)
	if g.hoarding {
		g.hoarded = append(g.hoarded, slot)
	} else {
		g.postBuffer(slot)
		q.Kick()
	}
	if h.op == opData {
		g.taken[h.dstPort] += h.length
		if g.autoCredit && g.taken[h.dstPort]-g.told[h.dstPort] > defaultAlloc/2 {
			g.send(g.header(opCreditUpdate, h.srcPort, h.dstPort), nil)
		}
	}
	return h, payload, true
}

// recv waits for the next packet from the host.
func (g *guest) recv() (h header, payload []byte) {
	g.eventually(func() (ok bool) {
		h, payload, ok = g.poll()
		return ok
	})
	return h, payload
}

// discard takes all packets from the host that are there.
func (g *guest) discard() {
	for {
		if _, _, ok := g.poll(); !ok {
			return
		}
	}
}

// silence checks that no packet comes.
func (g *guest) silence() {
	g.t.Helper()
	time.Sleep(quiet)
	if h, _, ok := g.poll(); ok {
		require.Fail(g.t, "a packet", "%+v", h)
	}
}

func (g *guest) eventually(f func() bool) {
	g.t.Helper()
	for end := time.Now().Add(watchdog); !f(); time.Sleep(20 * time.Microsecond) {
		require.True(g.t, time.Now().Before(end), "nothing happens")
	}
}

// listen replaces the host's listener.
func (g *guest) listen(f func(uint32, *Conn) bool) { g.accept.Store(&f) }

// acceptAll puts every connection from the guest into g.conns.
func (g *guest) acceptAll() {
	g.listen(func(_ uint32, c *Conn) bool {
		g.conns <- c
		return true
	})
}

// connect opens a connection from the guest.
func (g *guest) connect(host, port uint32) *Conn {
	g.t.Helper()
	g.taken[port] = 0
	g.acceptAll()
	g.send(g.header(opRequest, host, port), nil)
	h, _ := g.recv()
	require.Equal(g.t, header{
		srcCID: hostCID, dstCID: testCID, srcPort: host, dstPort: port, kind: typeStream, op: opResponse, alloc: bufferSize,
	}, h)
	return <-g.conns
}

// dial opens a connection from the host.
func (g *guest) dial(port uint32) *Conn {
	g.t.Helper()
	done := make(chan *Conn, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), watchdog)
		defer cancel()
		c, err := g.Dial(ctx, port)
		assert.NoError(g.t, err)
		done <- c
	}()
	h, _ := g.recv()
	require.Equal(g.t, opRequest, h.op)
	require.Equal(g.t, port, h.dstPort)
	g.sentRequest = h
	g.taken[port] = 0
	g.send(g.header(opResponse, h.srcPort, port), nil)
	c := <-done
	require.NotNil(g.t, c)
	return c
}

// exchange sends a word each way.
func (g *guest) exchange(c *Conn) {
	g.t.Helper()
	g.data(c.key.host, c.key.guest, []byte("ping"))
	b := make([]byte, 4)
	_, err := io.ReadFull(c, b)
	require.NoError(g.t, err)
	require.Equal(g.t, "ping", string(b))
	_, err = c.Write([]byte("pong"))
	require.NoError(g.t, err)
	var got []byte
	for len(got) < 4 {
		h, p := g.recv()
		require.Contains(g.t, []operation{opData, opCreditUpdate, opCreditRequest}, h.op)
		got = append(got, p...)
	}
	require.Equal(g.t, "pong", string(got))
}

// hoard takes all buffers away from the host; release gives them back.
func (g *guest) hoard() {
	g.hoarding = true
	for i := range uint32(rxBuffers) {
		g.send(header{op: opData, srcPort: 70000 + i, dstPort: 70000}, nil)
		h, _ := g.recv()
		require.Equal(g.t, opReset, h.op)
	}
}

func (g *guest) release() {
	g.hoarding = false
	for _, slot := range g.hoarded {
		g.postBuffer(slot)
	}
	g.hoarded = nil
	g.Queues[rxQueue].Kick()
}

// event waits for an event and takes all event buffers that came back with it.
func (g *guest) event() []byte {
	var event []byte
	g.eventually(func() bool {
		u, ok := g.Queues[eventQueue].Take()
		if ok {
			slot := g.slots[eventQueue][u.Head]
			g.events = append(g.events, slot)
			if u.Len > 0 {
				require.Nil(g.t, event, "one event")
				event = slices.Clone(g.Bytes(eventArea+uint64(slot)*16, int(u.Len)))
			}
		}
		return event != nil && len(g.events) == eventBuffers
	})
	return event
}

func (g *guest) repostEvents() {
	q := g.Queues[eventQueue]
	for _, slot := range g.events {
		g.slots[eventQueue][q.Add(virtiotest.Buffer{Addr: eventArea + uint64(slot)*16, Len: 16, Write: true})] = slot
	}
	q.Kick()
	g.events = nil
}

// failure is why the device needs a reset.
func (g *guest) failure() error { return g.MMIO.Failure() }

// corrupt makes the available index of a queue jump.
func (g *guest) corrupt(queue int) {
	q := g.Queues[queue]
	q.SetAvailable(q.Next + q.Size + 1)
	q.Notify()
}

// clone runs a copy of the machine, with the same guest in it.
func (g *guest) clone(s virtiotest.Snapshot) *guest {
	c := &guest{t: g.t, conns: g.conns, bufferSize: g.bufferSize, slots: g.slots}
	c.build()
	c.taken, c.told, c.alloc = maps.Clone(g.taken), maps.Clone(g.told), maps.Clone(g.alloc)
	c.events, c.hoarded = slices.Clone(g.events), slices.Clone(g.hoarded)
	c.Adopt(s)
	require.NoError(g.t, c.MMIO.RestoreState(s.State))
	return c
}
