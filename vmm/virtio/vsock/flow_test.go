package vsock

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestWriteWaitsForCredit(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.window(1, 2, 100)
	text := pattern(250)
	done := make(chan error)
	go func() {
		_, err := c.Write(text)
		done <- err
	}()
	var got []byte
	_, p := g.recv()
	got = append(got, p...)
	assert.Len(t, got, 100)
	h, _ := g.recv()
	assert.Equal(t, opCreditRequest, h.op, "once, then it waits")
	g.silence()
	g.update(1, 2, 100, 0)
	g.silence()

	g.update(1, 2, 100, 60)
	_, p = g.recv()
	assert.Len(t, p, 60)
	got = append(got, p...)
	h, _ = g.recv()
	assert.Equal(t, opCreditRequest, h.op)
	g.update(1, 2, 4096, 160)
	_, p = g.recv()
	got = append(got, p...)
	require.NoError(t, <-done)
	assert.Equal(t, text, got)
	g.silence()
}

func TestReadGrantsCredit(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	text := pattern(bufferSize)
	for off := 0; off < len(text); off += 1 << 16 {
		g.data(1, 2, text[off:off+1<<16])
	}
	got := make([]byte, bufferSize/4-1)
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	g.silence()
	rest := make([]byte, len(text)-len(got))
	_, err = io.ReadFull(c, rest[:1])
	require.NoError(t, err)
	h, _ := g.recv()
	assert.Equal(t, opCreditUpdate, h.op)
	assert.Equal(t, uint32(bufferSize/4), h.forwarded)
	assert.Equal(t, uint32(bufferSize), h.alloc)
	_, err = io.ReadFull(c, rest[1:])
	require.NoError(t, err)
	assert.Equal(t, text, append(got, rest...))
	for h.forwarded != bufferSize {
		h, _ = g.recv()
		require.Equal(t, opCreditUpdate, h.op)
	}
	g.silence()

	g.send(header{op: opCreditRequest, srcPort: 2, dstPort: 1, alloc: 1000}, nil)
	h, _ = g.recv()
	assert.Equal(t, opCreditUpdate, h.op)
}

// TestCountersWrap moves more than the counters hold past their end.
func TestCountersWrap(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	const start = 1<<32 - 1000
	c.mu.Lock()
	c.credit.received, c.credit.forwarded, c.credit.told = start, start, start
	c.credit.sent, c.credit.peerForwarded = start, start
	c.mu.Unlock()
	text := pattern(3000)
	g.taken[2] = start
	done := make(chan error)
	go func() {
		_, err := c.Write(text)
		done <- err
	}()
	var got []byte
	for len(got) < len(text) {
		h, p := g.recv()
		require.Equal(t, opData, h.op)
		got = append(got, p...)
		g.update(1, 2, 2000, uint32(len(got))+start)
	}
	require.NoError(t, <-done)
	assert.Equal(t, uint32(2000), g.taken[2])
	g.data(1, 2, text)
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	assert.Equal(t, text, got)
	_, err = c.Write([]byte{1})
	require.NoError(t, err)
	h, _ := g.recv()
	assert.Equal(t, uint32(2000), h.forwarded, "1000 below and 2000 above the wrap")
	assert.Equal(t, 1, g.Stats().Conns)
}

// TestNoBuffersThenMany is CVE-2020-16843's lesson: a long time without buffers, then
// all at once.
func TestNoBuffersThenMany(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	var conns []*Conn
	for i := range uint32(8) {
		conns = append(conns, g.connect(1, 100+i))
	}
	g.hoard()
	var wg sync.WaitGroup
	text := pattern(20000)
	for _, c := range conns {
		wg.Go(func() {
			_, err := c.Write(text)
			assert.NoError(t, err)
		})
	}
	for i := range uint32(20) {
		g.send(header{op: opData, srcPort: 9000 + i, dstPort: 9}, nil)
	}
	g.silence()
	g.release()
	got := make(map[uint32][]byte)
	refused := 0
	for n := 0; n < len(conns)*len(text); {
		h, p := g.recv()
		if h.op == opReset {
			refused++
			continue
		}
		require.Equal(t, opData, h.op)
		got[h.dstPort] = append(got[h.dstPort], p...)
		n += len(p)
	}
	wg.Wait()
	for i := range uint32(8) {
		assert.True(t, bytes.Equal(text, got[100+i]))
	}
	for refused < 20 {
		h, _ := g.recv()
		require.Equal(t, opReset, h.op)
		refused++
	}
	g.silence()
}

// TestRefusalsHoldTheGuestBack floods the device with packets of no connection while it
// has nowhere to put its answers.
func TestRefusalsHoldTheGuestBack(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.hoard()
	const flood = maxResets + 28
	for i := range uint32(flood) {
		g.post(header{op: opData, srcPort: 10 + i, dstPort: 9}, nil)
	}
	g.eventually(func() bool {
		_, n := g.outbox.len()
		return n == maxResets && g.used(txQueue) == maxResets
	})
	g.silence()
	assert.Equal(t, maxResets, g.used(txQueue), "no packet is taken that could not be answered")
	g.release()
	seen := make(map[uint32]bool)
	for range flood {
		h, _ := g.recv()
		require.Equal(t, opReset, h.op)
		require.False(t, seen[h.dstPort], "one reset for each")
		seen[h.dstPort] = true
	}
	assert.Len(t, seen, flood)
	g.silence()
	g.reap()
	g.exchange(g.connect(1, 2))
}

// TestEveryKindOfRing moves data with and without EVENT_IDX and indirect tables.
func TestEveryKindOfRing(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]virtiotest.Config{
		"flags":              {Refuse: virtio.FeatureEventIdx | virtio.FeatureIndirectDesc},
		"flags and indirect": {Refuse: virtio.FeatureEventIdx, Indirect: true},
		"events":             {Refuse: virtio.FeatureIndirectDesc},
		"indirect":           {Indirect: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, cfg)
			c, d := g.connect(1, 2), g.dial(3)
			for range 500 {
				g.exchange(c)
				g.exchange(d)
			}
			assert.NoError(t, g.failure())
		})
	}
}

// TestManyStreams sends random lengths both ways on many connections at once.
func TestManyStreams(t *testing.T) {
	t.Parallel()
	const streams, size = 12, 300 << 10
	g := newGuest(t)
	g.autoCredit = true
	sums := make(chan [32]byte, streams)
	var wg sync.WaitGroup
	var conns []*Conn
	for i := range uint32(streams) {
		conns = append(conns, g.connect(7, 100+i))
	}
	for i, c := range conns {
		wg.Go(func() {
			text := pattern(size)
			r := rand.New(rand.NewPCG(uint64(i), 0))
			for off := 0; off < size; {
				n := min(1+r.IntN(9000), size-off)
				if _, err := c.Write(text[off : off+n]); !assert.NoError(t, err) {
					return
				}
				off += n
			}
			assert.NoError(t, c.CloseWrite())
		})
		wg.Go(func() {
			h := sha256.New()
			n, err := io.Copy(h, c)
			assert.NoError(t, err)
			assert.EqualValues(t, size, n)
			sums <- [32]byte(h.Sum(nil))
		})
	}
	want := sha256.Sum256(pattern(size))
	got := make(map[uint32][]byte)
	ended, sent, credit := 0, make(map[uint32]int), make(map[uint32]uint32)
	text := pattern(size)
	deadline := time.Now().Add(watchdog)
	for finished := 0; ended < streams || finished < streams; {
		require.True(t, time.Now().Before(deadline))
		for i := range uint32(streams) {
			port := 100 + i
			room := bufferSize - (uint32(sent[port]) - credit[port])
			if n := min(5000, size-sent[port], int(room)); n > 0 {
				g.data(7, port, text[sent[port]:sent[port]+n])
				if sent[port] += n; sent[port] == size {
					h := g.header(opShutdown, 7, port)
					h.flags = shutdownSend
					g.send(h, nil)
					finished++
				}
			}
		}
		for {
			h, p, ok := g.poll()
			if !ok {
				break
			}
			credit[h.dstPort] = h.forwarded
			switch h.op {
			case opData:
				got[h.dstPort] = append(got[h.dstPort], p...)
			case opShutdown:
				ended++
			case opReset:
				require.Fail(t, "reset")
			}
		}
	}
	wg.Wait()
	for range streams {
		assert.Equal(t, want, <-sums)
	}
	for i := range uint32(streams) {
		assert.Equal(t, want, sha256.Sum256(got[100+i]))
	}
	assert.EqualValues(t, streams*size, g.Stats().Received)
	assert.EqualValues(t, streams*size, g.Stats().Sent)
	assert.Zero(t, g.Stats().Killed)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}
