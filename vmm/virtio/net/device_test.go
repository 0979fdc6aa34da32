package net

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no backend": {MAC: mac},
		"no address": {Backend: &cable{}},
		"multicast":  {MAC: [6]byte{1, 2, 3, 4, 5, 6}, Backend: &cable{}},
		"small MTU":  {MAC: mac, MTU: 1279, Backend: &cable{}},
	} {
		_, err := New(cfg)
		assert.ErrorIs(t, err, ErrConfig, name)
	}
}

func TestConfigSpace(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 2048, virtiotest.Config{})
	assert.Equal(t, []byte{2, 0x6d, 0x73, 0, 1, 2, 1, 0, 1, 0, 0xdc, 5, 0, 0}, g.Config(0, 14))
	assert.Equal(t, []byte{0, 0, 0, 0}, g.Config(1<<20, 4))
}

func TestGuestSends(t *testing.T) {
	t.Parallel()
	partial := Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}
	tcp4 := Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, GSO: GSOTCPv4, HeaderLen: 54, SegmentSize: 1448}
	tcp6, udp := tcp4, tcp4
	tcp6.GSO, udp.GSO = GSOTCPv6, GSOUDP
	for name, c := range map[string]struct {
		offload Offload
		size    int
		cuts    []int
	}{
		"plain":                  {Offload{}, 60, nil},
		"least":                  {Offload{}, MinFrame, []int{12}},
		"header by itself":       {Offload{}, 1514, []int{12}},
		"cut anywhere":           {Offload{}, 1514, []int{1, 5, 100, 0, 700}},
		"checksum":               {partial, 100, []int{12}},
		"TCP over IPv4, 64 KiB":  {tcp4, 65000, []int{12, 4096, 4096}},
		"TCP over IPv6, largest": {tcp6, MaxFrame, []int{12}},
		"datagrams":              {udp, 5000, []int{12, 54}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, 2048, virtiotest.Config{})
			var h [headerSize]byte
			c.offload.put(&h, 0)
			frame := pattern(c.size)
			g.send(h, frame, c.cuts...)
			require.Equal(t, 1, g.cable.count())
			assert.Equal(t, c.offload, g.cable.sent[0])
			assert.Equal(t, frame, g.cable.bytes[0])
			assert.Equal(t, Stats{Sent: 1, SentBytes: uint64(c.size)}, g.Stats())
		})
	}
}

// TestHostileHeaders are N57 and N58: each frame is dropped, and the next one passes.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	const checksumFrom = featureChecksum
	for name, c := range map[string]struct {
		header [headerSize]byte
		size   int
		refuse uint64
	}{
		"N57 frame of 13 bytes":      {size: 13},
		"N57 nothing":                {size: 0},
		"N57 frame too large":        {size: MaxFrame + 1},
		"N58 unknown segmentation":   {header: [headerSize]byte{1, 2, 0, 0, 1, 0}, size: 100},
		"N58 fragments":              {header: [headerSize]byte{1, 3, 0, 0, 1, 0}, size: 100},
		"N58 segments of 0 bytes":    {header: [headerSize]byte{1, 1, 54, 0, 0, 0}, size: 100},
		"N58 segments, no checksum":  {header: [headerSize]byte{0, 1, 54, 0, 100, 0}, size: 1000},
		"N58 checksum behind":        {header: [headerSize]byte{1, 0, 0, 0, 0, 0, 98, 0, 1, 0}, size: 100},
		"N58 checksum far behind":    {header: [headerSize]byte{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, size: 100},
		"checksum, not negotiated":   {header: [headerSize]byte{1, 0, 0, 0, 0, 0, 34, 0, 16, 0}, size: 100, refuse: checksumFrom},
		"TCP IPv4, not negotiated":   {header: [headerSize]byte{1, 1, 54, 0, 100, 0, 34, 0, 16, 0}, size: 1000, refuse: featureHostTSO4},
		"TCP IPv6, not negotiated":   {header: [headerSize]byte{1, 4, 54, 0, 100, 0, 34, 0, 16, 0}, size: 1000, refuse: featureHostTSO6},
		"datagrams, not negotiated":  {header: [headerSize]byte{1, 5, 54, 0, 100, 0, 34, 0, 16, 0}, size: 1000, refuse: featureHostUSO},
		"ECN does not hide the rest": {header: [headerSize]byte{1, 0x82, 54, 0, 100, 0, 34, 0, 16, 0}, size: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, 2048, virtiotest.Config{Refuse: c.refuse})
			g.send(c.header, pattern(c.size))
			assert.Zero(t, g.cable.count())
			assert.Equal(t, Stats{SentDropped: 1}, g.Stats())
			g.send([headerSize]byte{}, pattern(60))
			assert.Equal(t, 1, g.cable.count())
			assert.False(t, g.NeedsReset())
		})
	}
	t.Run("N57 no header", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t, 2048, virtiotest.Config{})
		g.Queues[transmitQueue].Do(virtiotest.Buffer{Addr: sendArea, Len: 11})
		g.Queues[transmitQueue].Do(virtiotest.Buffer{Addr: sendArea, Len: 100, Write: true})
		assert.Equal(t, Stats{SentDropped: 2}, g.Stats())
	})
}

func TestGuestReceives(t *testing.T) {
	t.Parallel()
	gso := Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, GSO: GSOTCPv4, HeaderLen: 54, SegmentSize: 1448}
	for name, c := range map[string]struct {
		offload Offload
		size    int
		buffers int // that it fills
		refuse  uint64
		of      uint32
	}{
		"one buffer":                 {size: 1500, buffers: 1, of: 1536},
		"to the last byte":           {size: 1500, buffers: 1, of: 1512},
		"one byte too many":          {size: 1501, buffers: 2, of: 1512},
		"64 KiB":                     {offload: gso, size: 65000, buffers: 43, of: 1536},
		"the largest":                {offload: gso, size: MaxFrame, buffers: 44, of: 1524},
		"buffers as small as can be": {size: 40, buffers: 5, of: 12},
		"not mergeable":              {size: 1500, buffers: 1, of: 2048, refuse: featureMergeable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, c.of, virtiotest.Config{Refuse: c.refuse})
			g.post(100)
			frame := pattern(c.size)
			require.True(t, g.Deliver(c.offload, [][]byte{frame[:20], nil, frame[20:]}))
			g.Flush()
			free := g.Queues[receiveQueue].Free()
			o, got := g.receive()
			assert.Equal(t, c.offload, o)
			assert.Equal(t, frame, got)
			assert.Equal(t, c.buffers, g.Queues[receiveQueue].Free()-free)
			require.True(t, g.Deliver(Offload{}, [][]byte{frame[:30]}))
			_, got = g.receive()
			assert.Equal(t, frame[:30], got)
			assert.Equal(t, Stats{Received: 2, ReceivedBytes: uint64(c.size) + 30}, g.Stats())
		})
	}
}

func TestFramesThatTheGuestCannotTake(t *testing.T) {
	t.Parallel()
	partial := Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}
	tcp6 := Offload{NeedsChecksum: true, ChecksumStart: 54, ChecksumOffset: 16, GSO: GSOTCPv6, SegmentSize: 1000}
	for name, c := range map[string]struct {
		offload Offload
		size    int
		refuse  uint64
		of      uint32
	}{
		"too small":                          {size: 13, of: 2048},
		"too large":                          {size: MaxFrame + 1, of: 2048},
		"no checksums":                       {offload: partial, size: 100, refuse: featureGuestChecksum, of: 2048},
		"no segments":                        {offload: tcp6, size: 100, refuse: featureGuestTSO6, of: 2048},
		"N59 64 buffers are not enough":      {size: 1500, of: 20},
		"N59 one buffer that is too small":   {size: 1500, refuse: featureMergeable, of: 1000},
		"datagram segments are not for them": {offload: Offload{NeedsChecksum: true, GSO: GSOUDP, SegmentSize: 9}, size: 100, of: 2048},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, c.of, virtiotest.Config{Refuse: c.refuse})
			g.post(100)
			assert.True(t, g.Deliver(c.offload, [][]byte{pattern(c.size)}))
			assert.Equal(t, Stats{ReceivedDropped: 1}, g.Stats())
			assert.True(t, g.Deliver(Offload{}, [][]byte{pattern(14)}))
			_, got := g.receive()
			assert.Equal(t, pattern(14), got)
			assert.False(t, g.NeedsReset())
		})
	}
}

func TestReceiveBufferWithoutRoomForTheHeader(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 11, virtiotest.Config{})
	g.post(1)
	assert.True(t, g.Deliver(Offload{}, [][]byte{pattern(60)}))
	assert.ErrorContains(t, g.WaitBroken(), "receive buffer of 11 bytes")
	assert.True(t, g.Deliver(Offload{}, [][]byte{pattern(60)}), "dropped")
	g.size = 2048
	g.Restart()
	g.slots = map[uint16]uint64{}
	g.post(1)
	g.cable.queue(pattern(60))
	_, got := g.receive()
	assert.Equal(t, pattern(60), got)
}

// TestStarvedQueueRecovers is N61: no buffers for long, then all at once, again and again.
func TestStarvedQueueRecovers(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]virtiotest.Config{"event index": {}, "flags": {Refuse: 1 << 29}, "small queue": {QueueSize: 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, 600, cfg)
			const frames = 300
			for i := range frames {
				frame := pattern(1000)
				frame[0] = byte(i)
				g.cable.queue(frame)
			}
			for i := range frames {
				g.post(2)
				_, got := g.receive()
				require.Equal(t, byte(i), got[0], "in order")
				require.Len(t, got, 1000)
			}
			assert.EqualValues(t, frames, g.Stats().Received)
		})
	}
}

func TestDeliverWithoutADriverDrops(t *testing.T) {
	t.Parallel()
	d, _ := newDevice(t)
	assert.True(t, d.Deliver(Offload{}, [][]byte{pattern(60)}))
	d.Flush()
	g := virtiotest.Start(t, d, virtiotest.Config{})
	g.Store(virtiotest.RegStatus, 0)
	assert.True(t, d.Deliver(Offload{}, [][]byte{pattern(60)}))
	require.NoError(t, d.Close())
	assert.True(t, d.Deliver(Offload{}, [][]byte{pattern(60)}))
	assert.Equal(t, Stats{ReceivedDropped: 3}, d.Stats())
}

func TestBrokenTransmitQueue(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 2048, virtiotest.Config{})
	q := g.Queues[transmitQueue]
	q.SetAvailable(q.Next + 1000)
	q.Notify()
	assert.ErrorContains(t, g.WaitBroken(), "available index")
	g.Restart()
	g.send([headerSize]byte{}, pattern(60))
	assert.Equal(t, 1, g.cable.count())
}

func TestDisabledQueue(t *testing.T) {
	t.Parallel()
	d, _ := newDevice(t)
	g := virtiotest.New(t, d, virtiotest.Config{})
	g.Negotiate()
	g.LayOut()
	g.Queues[0].Program()
	g.Store(virtiotest.RegStatus, virtiotest.Running)
	assert.ErrorContains(t, g.WaitBroken(), "disabled")
}

// TestQueuesDoNotAllocate guards both paths.
func TestQueuesDoNotAllocate(t *testing.T) {
	d, err := New(Config{MAC: mac, Backend: &sink{}})
	require.NoError(t, err)
	g := &guest{t: t, Device: d, Driver: virtiotest.Start(t, d, virtiotest.Config{})}
	frame := [][]byte{pattern(1000), pattern(65)}
	small := []virtiotest.Buffer{{Addr: sendArea, Len: 12}, {Addr: sendArea + 64, Len: 60}}
	large := []virtiotest.Buffer{{Addr: sendArea, Len: 12}, {Addr: sendArea + 64, Len: smallFrame}}
	rx, tx := g.Queues[receiveQueue], g.Queues[transmitQueue]
	in := []virtiotest.Buffer{{Addr: receiveArea, Len: 600, Write: true}}
	step := func() {
		rx.Add(in...)
		rx.Add(in...)
		if !g.Deliver(Offload{}, frame) {
			t.Error("no room")
		}
		g.Flush()
		rx.Take()
		rx.Take()
		tx.Add(small...)
		tx.Add(large...)
		tx.Kick()
		for n := 0; n < 2; {
			if _, ok := tx.Take(); ok {
				n++
				continue
			}
			tx.Sleep()
		}
	}
	assert.Less(t, testing.AllocsPerRun(1000, step), 0.1)
	assert.NotZero(t, g.Stats().Sent)
}

// sink is a backend that does nothing.
type sink struct{}

func (*sink) Transmit(Offload, [][]byte) {}
func (*sink) Ready()                     {}
