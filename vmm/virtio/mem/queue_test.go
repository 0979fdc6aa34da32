package mem

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestPlugAndUnplug(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 10)
	state := func(first uint64, n uint16) [2]uint16 { return g.ask(requestState, block(first), n) }
	assert.Equal(t, [2]uint16{answerACK, stateUnplugged}, state(0, regionBlocks))
	require.Equal(t, ack, g.ask(requestPlug, block(62), 4))
	assert.Equal(t, [2]uint16{answerACK, statePlugged}, state(62, 4))
	assert.Equal(t, [2]uint16{answerACK, stateMixed}, state(61, 4))
	assert.Equal(t, [2]uint16{answerACK, stateUnplugged}, state(66, 4))
	assert.Equal(t, []memory.Range{{Base: block(62), Size: 4 * BlockSize}}, g.dev.Plugged())

	for n := range uint64(4) {
		g.Bytes(block(62+n), 1)[0] = 7
	}
	require.Equal(t, ack, g.ask(requestUnplug, block(63), 2))
	assert.EqualValues(t, 7, g.Bytes(block(62), 1)[0])
	assert.Zero(t, g.Bytes(block(63), 1)[0], "the host has it again")
	assert.Zero(t, g.Bytes(block(64), 1)[0])
	assert.EqualValues(t, 7, g.Bytes(block(65), 1)[0])
	assert.Equal(t, []memory.Range{{Base: block(62), Size: BlockSize}, {Base: block(65), Size: BlockSize}}, g.dev.Plugged())
	assert.EqualValues(t, 2*BlockSize, g.field(40))

	assert.Equal(t, ack, g.ask(requestUnplugAll, math.MaxUint64, math.MaxUint16), "the rest of it is no matter")
	assert.Empty(t, g.dev.Plugged())
	assert.Zero(t, g.Bytes(block(65), 1)[0])
	assert.Equal(t, ack, g.ask(requestUnplugAll, 0, 0), "also if there are none")
}

func TestNoMoreThanTheTarget(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 3)
	assert.Equal(t, nack, g.ask(requestPlug, block(0), 4))
	require.Equal(t, ack, g.ask(requestPlug, block(0), 2))
	assert.Equal(t, nack, g.ask(requestPlug, block(10), 2))
	require.NoError(t, g.dev.SetTarget(BlockSize))
	assert.Equal(t, nack, g.ask(requestPlug, block(10), 1))
	assert.EqualValues(t, 2*BlockSize, g.dev.Sizes().Plugged, "the guest gives back when it can")
	require.Equal(t, ack, g.ask(requestUnplug, block(0), 2))
	assert.Equal(t, ack, g.ask(requestPlug, block(10), 1))
}

// TestHostileRequests change nothing.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	g := newGuest(t, regionBlocks)
	require.Equal(t, ack, g.ask(requestPlug, block(8), 8))
	g.Bytes(block(8), 1)[0] = 7
	before := g.dev.Plugged()
	for name, c := range map[string]struct {
		kind uint16
		addr uint64
		n    uint16
	}{
		"plugged already":          {requestPlug, block(8), 8},
		"plugged in part":          {requestPlug, block(7), 2},
		"plugged at the end":       {requestPlug, block(0), 9},
		"not plugged":              {requestUnplug, block(0), 8},
		"not plugged in part":      {requestUnplug, block(15), 2},
		"no blocks to plug":        {requestPlug, block(0), 0},
		"no blocks to unplug":      {requestUnplug, block(8), 0},
		"no blocks with a state":   {requestState, block(8), 0},
		"before the region":        {requestPlug, block(0) - BlockSize, 1},
		"RAM":                      {requestUnplug, 0, 1},
		"into the region":          {requestPlug, block(0) - BlockSize, 2},
		"behind the region":        {requestPlug, block(regionBlocks), 1},
		"out of the region":        {requestPlug, block(regionBlocks - 1), 2},
		"state out of the region":  {requestState, block(regionBlocks - 1), 2},
		"unplug out of the region": {requestUnplug, block(15), math.MaxUint16},
		"inside a block":           {requestPlug, block(0) + 4096, 1},
		"unplug inside a block":    {requestUnplug, block(8) + 1, 1},
		"end of addresses":         {requestPlug, math.MaxUint64, 1},
		"wraps around":             {requestPlug, math.MaxUint64 - BlockSize + 1, 2},
		"unknown":                  {4, block(0), 1},
		"unknown, all bits":        {math.MaxUint16, block(8), 8},
	} {
		assert.Equal(t, bad, g.ask(c.kind, c.addr, c.n), name)
	}
	assert.Equal(t, before, g.dev.Plugged())
	assert.EqualValues(t, 7, g.Bytes(block(8), 1)[0])
	assert.False(t, g.NeedsReset())
}

// TestOddChains are answered as far as they have room for it.
func TestOddChains(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 4)
	r := g.request(requestPlug, block(0), 1)
	in, out := r[0], r[1]
	cut := func(b virtiotest.Buffer, off, n uint32) virtiotest.Buffer {
		b.Addr += uint64(off)
		b.Len = n
		return b
	}
	kind := func(bufs ...virtiotest.Buffer) byte {
		g.Bytes(answerArea, 1)[0] = 0xff
		assert.EqualValues(t, answerSize, g.Queues[0].Do(bufs...).Len)
		return g.Bytes(answerArea, 1)[0]
	}
	assert.EqualValues(t, answerError, kind(cut(in, 0, requestSize-1), out), "a part of a request")
	assert.EqualValues(t, answerError, kind(out), "no request")
	assert.EqualValues(t, answerACK, kind(cut(in, 0, 5), cut(in, 5, 19), cut(out, 0, 3), cut(out, 3, 7)), "in pieces")
	assert.EqualValues(t, answerError, kind(cut(in, 0, 100), cut(out, 0, 100)), "longer than need be; the block is plugged")
	assert.EqualValues(t, BlockSize, g.dev.Sizes().Plugged)

	g.Queues[0].Add(in, cut(out, 0, answerSize-1))
	g.Queues[0].Notify()
	assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest, "no room for an answer")
	g.Restart()
	g.Queues[0].Add(in)
	g.Queues[0].Notify()
	assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest)
	g.Queues[0].Add(r...)
	g.Queues[0].Notify()
	g.Restart()
	assert.Equal(t, ack, g.ask(requestUnplug, block(0), 1))
}

// TestTheAnswerInsideTheBlock: a guest may take its own ground away.
func TestTheAnswerInsideTheBlock(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 1)
	require.Equal(t, ack, g.ask(requestPlug, block(0), 1))
	r := g.request(requestUnplug, block(0), 1)
	r[1].Addr = block(0)
	g.Bytes(block(0), 1)[0] = 7
	g.Queues[0].Do(r...)
	assert.Zero(t, g.Bytes(block(0), 1)[0])
	assert.Zero(t, g.dev.Sizes().Plugged)
}

// TestManyRequests at once are all served, in order.
func TestManyRequests(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 1)
	plug, unplug := g.request(requestPlug, block(0), 1), g.request(requestUnplug, block(0), 1)
	unplug[0].Addr += 0x100
	g.Write(unplug[0].Addr, g.Bytes(requestArea, requestSize))
	g.request(requestPlug, block(0), 1)
	for range 4 {
		for range queueSize / 4 {
			g.Queues[0].Add(plug...)
			g.Queues[0].Add(unplug...)
		}
		g.Queues[0].Notify()
		for range queueSize / 2 {
			g.Queues[0].Wait()
			assert.EqualValues(t, answerACK, g.Bytes(answerArea, 1)[0])
		}
	}
	assert.Zero(t, g.dev.Sizes().Plugged)
}

func TestRequestsDoNotAllocate(t *testing.T) {
	g := newGuest(t, 8)
	plug, unplug := g.request(requestPlug, block(60), 8), []virtiotest.Buffer(nil)
	unplug = append(unplug, plug...)
	unplug[0].Addr += 0x100
	g.request(requestUnplug, block(60), 8)
	g.Write(unplug[0].Addr, g.Bytes(requestArea, requestSize))
	g.request(requestPlug, block(60), 8)
	do := func(bufs []virtiotest.Buffer) {
		q := g.Queues[0]
		q.Add(bufs...)
		q.Kick()
		for {
			if _, ok := q.Take(); ok {
				break
			}
			q.Sleep()
		}
		if g.Bytes(answerArea, 1)[0] != answerACK {
			t.Error("not acknowledged")
		}
	}
	assert.Less(t, testing.AllocsPerRun(200, func() {
		do(plug)
		do(unplug)
	}), 0.1)
}
