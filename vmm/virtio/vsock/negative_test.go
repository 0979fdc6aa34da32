package vsock

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHostilePackets sends one packet on an established connection 1-2 and on none. What
// the packet must lead to is the answer, if any, and whether the connection lives on. In
// every case the device and another connection must go on working.
func TestHostilePackets(t *testing.T) {
	t.Parallel()
	const none = operation(0)
	ok := header{op: opData, srcPort: 2, dstPort: 1, alloc: 4096}
	with := func(change func(*header)) header {
		h := ok
		change(&h)
		return h
	}
	cases := map[string]struct {
		h       header
		payload int
		raw     []int // lengths of the descriptors, instead of one
		forge   func(*header)
		before  []header
		answer  operation
		dies    error // how the connection ends, nil if it lives
	}{
		"N65 length beyond the buffer":          {h: ok, payload: 10, forge: func(h *header) { h.length = 11 }, answer: opReset, dies: ErrProtocol},
		"N65 length 4 GiB":                      {h: ok, payload: 10, forge: func(h *header) { h.length = 1<<32 - 1 }, answer: opReset, dies: ErrProtocol},
		"N66 length less than the buffer":       {h: ok, payload: 10, forge: func(h *header) { h.length = 9 }, answer: opReset, dies: ErrProtocol},
		"N66 length 0 with payload":             {h: ok, payload: 10, forge: func(h *header) { h.length = 0 }, answer: opReset, dies: ErrProtocol},
		"N66 no whole header":                   {h: ok, raw: []int{43}, answer: none},
		"N66 no byte":                           {h: ok, raw: []int{0}, answer: none},
		"N18 empty descriptors":                 {h: ok, raw: []int{0, 44, 0}, answer: none},
		"header split over descriptors":         {h: ok, raw: []int{1, 20, 20, 3}, answer: none},
		"N67 wrong source":                      {h: ok, forge: func(h *header) { h.srcCID = 77 }, answer: none},
		"N67 host as source":                    {h: ok, forge: func(h *header) { h.srcCID = 2 }, answer: none},
		"N67 source with high bits":             {h: ok, forge: func(h *header) { h.srcCID |= 1 << 32 }, answer: none},
		"N67 wrong destination":                 {h: ok, forge: func(h *header) { h.dstCID = 3 }, answer: none},
		"N67 loopback destination":              {h: ok, forge: func(h *header) { h.dstCID = 1 }, answer: none},
		"N68 op 0":                              {h: with(func(h *header) { h.op = 0 }), answer: none},
		"N68 op 8":                              {h: with(func(h *header) { h.op = 8 }), answer: none},
		"N68 op 65535":                          {h: with(func(h *header) { h.op = 65535 }), answer: none},
		"N68 op 8 of no connection":             {h: with(func(h *header) { h.op, h.srcPort = 8, 3 }), answer: opReset},
		"N68 type 0":                            {h: ok, forge: func(h *header) { h.kind = 0 }, answer: opReset},
		"N68 seqpacket":                         {h: ok, forge: func(h *header) { h.kind = 2 }, answer: opReset},
		"N68 reset of an unknown type":          {h: with(func(h *header) { h.op = opReset }), forge: func(h *header) { h.kind = 9 }, answer: none},
		"N69 data of no connection":             {h: with(func(h *header) { h.srcPort = 3 }), payload: 100, answer: opReset},
		"N69 other host port":                   {h: with(func(h *header) { h.dstPort = 3 }), payload: 100, answer: opReset},
		"N69 shutdown of no connection":         {h: with(func(h *header) { h.op, h.srcPort = opShutdown, 3 }), answer: opReset},
		"N69 response of no connection":         {h: with(func(h *header) { h.op, h.srcPort = opResponse, 3 }), answer: opReset},
		"N69 credit update of no connection":    {h: with(func(h *header) { h.op, h.srcPort = opCreditUpdate, 3 }), answer: opReset},
		"N69 reset of no connection":            {h: with(func(h *header) { h.op, h.srcPort = opReset, 3 }), answer: none},
		"second request":                        {h: with(func(h *header) { h.op = opRequest }), answer: opReset, dies: ErrReset},
		"response out of place":                 {h: with(func(h *header) { h.op = opResponse }), answer: opReset, dies: ErrProtocol},
		"N71 one packet beyond the credit":      {h: ok, payload: bufferSize + 1, answer: opReset, dies: ErrProtocol},
		"N71 bytes counted that were not sent":  {h: with(func(h *header) { h.op, h.forwarded = opCreditUpdate, 1 }), answer: opReset, dies: ErrProtocol},
		"N71 far more counted":                  {h: with(func(h *header) { h.op, h.forwarded = opCreditUpdate, 1<<31-1 }), answer: opReset, dies: ErrProtocol},
		"N71 count goes backwards":              {h: with(func(h *header) { h.op, h.forwarded = opCreditUpdate, 1<<32-1 }), answer: none},
		"N71 no buffer at all":                  {h: with(func(h *header) { h.op, h.alloc = opCreditUpdate, 0 }), answer: none},
		"N71 a buffer of 4 GiB":                 {h: with(func(h *header) { h.op, h.alloc = opCreditUpdate, 1<<32-1 }), answer: none},
		"N72 data after shutdown":               {h: ok, payload: 1, before: []header{with(func(h *header) { h.op, h.flags = opShutdown, shutdownSend })}, answer: opReset, dies: ErrProtocol},
		"shutdown with unknown flags":           {h: with(func(h *header) { h.op, h.flags = opShutdown, 0xfffffffc }), answer: none},
		"shutdown without flags":                {h: with(func(h *header) { h.op = opShutdown }), answer: none},
		"request with payload":                  {h: with(func(h *header) { h.op, h.srcPort, h.dstPort = opRequest, 9, 999 }), payload: 50, answer: opReset},
		"empty data":                            {h: ok, answer: none},
		"flags on data":                         {h: with(func(h *header) { h.flags = 0xffffffff }), payload: 5, answer: none},
		"N68 op 0 in a state of half shutdown":  {h: with(func(h *header) { h.op = 0 }), before: []header{with(func(h *header) { h.op, h.flags = opShutdown, shutdownReceive })}, answer: none},
		"N71 request that counts bytes already": {h: with(func(h *header) { h.op, h.srcPort, h.dstPort, h.forwarded = opRequest, 9, 999, 5 }), answer: opReset},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			c := g.connect(1, 2)
			other := g.connect(1, 50)
			g.listen(func(port uint32, c *Conn) bool { return port != 999 })
			for _, h := range tc.before {
				g.send(h, nil)
			}
			g.forge = tc.forge
			if tc.raw != nil {
				g.sendSplit(tc.h, tc.raw)
			} else {
				g.send(tc.h, make([]byte, tc.payload))
			}
			g.forge = nil
			if tc.answer != none {
				h, _ := g.recv()
				assert.Equal(t, tc.answer, h.op)
				assert.Equal(t, tc.h.srcPort, h.dstPort)
				assert.Equal(t, tc.h.dstPort, h.srcPort)
			}
			g.silence()
			if tc.dies != nil {
				_, err := c.Write([]byte{1})
				assert.ErrorIs(t, err, tc.dies)
				assert.Equal(t, 1, g.Stats().Conns)
			} else {
				assert.Equal(t, 2, g.Stats().Conns)
				c.mu.Lock()
				assert.Equal(t, established, c.phase)
				assert.NoError(t, c.err)
				c.mu.Unlock()
			}
			g.exchange(other)
			assert.NoError(t, g.failure(), "nothing of this is a reason to reset the device")
		})
	}
}

// TestCreditOverrun (N71) fills the buffer exactly and then sends one byte more.
func TestCreditOverrun(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	for range 4 {
		g.data(1, 2, make([]byte, bufferSize/4))
	}
	g.silence()
	assert.Equal(t, 1, g.Stats().Conns)
	g.data(1, 2, []byte{1})
	h, _ := g.recv()
	assert.Equal(t, opReset, h.op)
	g.data(1, 2, make([]byte, 1000))
	h, _ = g.recv()
	assert.Equal(t, opReset, h.op, "it is unknown now")
	_, err := c.Write([]byte{1})
	assert.ErrorIs(t, err, ErrProtocol)
	assert.EqualValues(t, bufferSize, g.Stats().Received)
	assert.EqualValues(t, 1, g.Stats().Killed)
}

// TestDataBeforeTheConnection sends data on a connection that the host dials, before the
// response.
func TestDataBeforeTheConnection(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	failed := make(chan error)
	go func() {
		_, err := g.Dial(context.Background(), 80)
		failed <- err
	}()
	h, _ := g.recv()
	g.send(header{op: opData, srcPort: 80, dstPort: h.srcPort, alloc: 100}, []byte("x"))
	require.ErrorIs(t, <-failed, ErrProtocol)
	h, _ = g.recv()
	assert.Equal(t, opReset, h.op)
	g.silence()
}

// TestRequestFlood (N70): connections are bounded, and so is what a refused one costs.
func TestRequestFlood(t *testing.T) {
	t.Parallel()
	g := newGuest(t, func(d *Device) { d.table.limit = 20 })
	var accepted atomic.Int32
	g.listen(func(uint32, *Conn) bool {
		accepted.Add(1)
		return true
	})
	responses, resets := 0, 0
	for i := range uint32(500) {
		g.send(header{op: opRequest, srcPort: 1000 + i, dstPort: 1, alloc: 1000}, nil)
		h, _ := g.recv()
		switch h.op {
		case opResponse:
			responses++
		case opReset:
			resets++
		}
	}
	assert.Equal(t, 20, responses)
	assert.Equal(t, 480, resets)
	assert.Equal(t, 20, g.Stats().Conns)
	_, err := g.Dial(context.Background(), 1)
	require.ErrorIs(t, err, ErrTooMany)
	// Resets make room.
	for i := range uint32(20) {
		g.send(header{op: opReset, srcPort: 1000 + i, dstPort: 1}, nil)
	}
	g.eventually(func() bool { return g.Stats().Conns == 0 })
	g.send(header{op: opRequest, srcPort: 9, dstPort: 1, alloc: 1000}, nil)
	h, _ := g.recv()
	assert.Equal(t, opResponse, h.op)
	assert.EqualValues(t, 21, accepted.Load())
}

// TestNoResetStorm (N69) answers what comes in answer to a reset with nothing.
func TestNoResetStorm(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	for i := range 100 {
		g.send(header{op: opData, srcPort: 3, dstPort: 4}, make([]byte, i))
		h, _ := g.recv()
		require.Equal(t, opReset, h.op)
		g.send(header{op: opReset, srcPort: 3, dstPort: 4}, nil)
	}
	g.silence()
	assert.EqualValues(t, 100, g.Stats().Refused)
}

// TestCloseWithoutCredit (N73) closes while a write waits: no spinning, no data after
// the shutdown.
func TestCloseWithoutCredit(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.window(1, 2, 10)
	failed := make(chan error)
	go func() {
		n, err := c.Write(make([]byte, 100))
		assert.Equal(t, 10, n)
		failed <- err
	}()
	h, p := g.recv()
	assert.Equal(t, opData, h.op)
	assert.Len(t, p, 10)
	h, _ = g.recv()
	assert.Equal(t, opCreditRequest, h.op)
	require.NoError(t, c.Close())
	require.Error(t, <-failed)
	h, _ = g.recv()
	assert.Equal(t, opShutdown, h.op)
	g.update(1, 2, 1000, 10)
	g.silence()
}

// TestHeaderSizedBuffers (N75) can carry every packet but data.
func TestHeaderSizedBuffers(t *testing.T) {
	t.Parallel()
	g := newGuest(t, func(*Device) {}, bufferOf(headerSize))
	c := g.connect(1, 2)
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	n, err := c.Write(make([]byte, 100))
	require.Error(t, err)
	assert.Zero(t, n)
	h, p := g.recv()
	assert.Equal(t, opCreditUpdate, h.op)
	assert.Empty(t, p)
	g.send(header{op: opCreditRequest, srcPort: 2, dstPort: 1, alloc: 1000}, nil)
	h, _ = g.recv()
	assert.Equal(t, opCreditUpdate, h.op)
	assert.NoError(t, g.failure())
}

func TestBufferOfOnePayloadByte(t *testing.T) {
	t.Parallel()
	g := newGuest(t, func(*Device) {}, bufferOf(headerSize+1))
	c := g.connect(1, 2)
	g.exchange(c)
}

// TestTooSmallBuffers cannot carry anything: the driver is broken.
func TestTooSmallBuffers(t *testing.T) {
	t.Parallel()
	g := newGuest(t, func(*Device) {}, bufferOf(headerSize-1))
	g.send(header{op: opData, srcPort: 2, dstPort: 1}, nil)
	g.eventually(func() bool { return g.failure() != nil })
	_, err := g.Dial(context.Background(), 1)
	require.ErrorIs(t, err, ErrNotReady)
}

// TestGuestCannotFillTheLog breaks the device again and again, and sends packets with
// wrong addresses.
func TestGuestCannotFillTheLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // written under the handler's lock, read when all is over
	g := newGuest(t, func(d *Device) { d.log = slog.New(slog.NewTextHandler(&log, nil)) })
	for range 20 {
		g.forge = func(h *header) { h.dstCID = 9 }
		g.send(header{op: opData, srcPort: 1, dstPort: 1}, nil)
		g.forge = nil
		g.corrupt(txQueue)
		g.eventually(func() bool { return g.failure() != nil })
		g.restart()
	}
	require.NoError(t, g.MMIO.Close())
	assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("\n")), "%s", log.String())
}
