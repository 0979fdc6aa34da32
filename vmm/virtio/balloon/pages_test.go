package balloon

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const firstPage = pageArea / pageSize

func TestInflateGivesPagesToTheHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pages []uint32 // from firstPage on
		want  []int
	}{
		"one":               {[]uint32{3}, []int{3}},
		"ascending":         {[]uint32{2, 3, 4}, []int{2, 3, 4}},
		"descending":        {[]uint32{7, 6, 5, 4}, []int{4, 5, 6, 7}},
		"scattered":         {[]uint32{9, 1, 5, 7}, []int{1, 5, 7, 9}},
		"down and up":       {[]uint32{5, 4, 6, 3}, []int{3, 4, 5, 6}},
		"twice":             {[]uint32{5, 5, 6, 5}, []int{5, 6}},
		"none":              {nil, nil},
		"runs side by side": {[]uint32{0, 1, 3, 2, 9, 8}, []int{0, 1, 2, 3, 8, 9}},
	} {
		g := newGuest(t, 0, virtiotest.Config{})
		g.dirty(10)
		var pages []uint32
		for _, p := range c.pages {
			pages = append(pages, firstPage+p)
		}
		list := g.numbers(pages...)
		u := g.Queues[inflateQueue].Do(list)
		assert.Zero(t, u.Len, name)
		assert.Equal(t, c.want, g.clean(10), name)
		assert.EqualValues(t, len(c.pages)*pageSize, g.dev.Counters().Inflated, name)
		g.Queues[deflateQueue].Do(list)
		assert.EqualValues(t, len(c.pages)*pageSize, g.dev.Counters().Deflated, name)
		g.dirty(10)
		assert.Empty(t, g.clean(10), "the pages can be used again")
	}
}

// TestInflateOfPagesThatAreNoRAM ignores them, and takes those between (N89).
func TestInflateOfPagesThatAreNoRAM(t *testing.T) {
	t.Parallel()
	ram := []memory.Range{{Base: 0, Size: virtiotest.RAMSize}, {Base: 32 << 20, Size: 1 << 20}}
	const end = virtiotest.RAMSize / pageSize
	for name, c := range map[string]struct {
		pages   []uint32
		ignored uint64
	}{
		"first in the hole":         {[]uint32{end}, 1},
		"over the end":              {[]uint32{end - 2, end - 1, end, end + 1}, 2},
		"over the end, downwards":   {[]uint32{end + 1, end, end - 1}, 2},
		"into the next region":      {[]uint32{8191, 8192}, 1},
		"last page number":          {[]uint32{math.MaxUint32}, 1},
		"around the end of numbers": {[]uint32{math.MaxUint32, 0, math.MaxUint32 - 1}, 2},
		"all bad":                   {[]uint32{end + 100, end + 5, end + 6, 1 << 30}, 4},
	} {
		g := newGuest(t, 0, virtiotest.Config{RAM: ram})
		g.Queues[inflateQueue].Do(g.numbers(c.pages...))
		n := g.dev.Counters()
		assert.Equal(t, c.ignored, n.Ignored, name)
		assert.EqualValues(t, (uint64(len(c.pages))-c.ignored)*pageSize, n.Inflated, name)
		assert.False(t, g.NeedsReset(), name)
	}
}

// TestOddLists have parts of numbers, no numbers or far too many (N89).
func TestOddLists(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 0, virtiotest.Config{})
	q := g.Queues[inflateQueue]
	list := g.numbers(firstPage, firstPage+1)
	for _, c := range []struct {
		bufs  []virtiotest.Buffer
		clean []int
	}{
		{[]virtiotest.Buffer{{Addr: list.Addr, Len: 3}}, nil},
		{[]virtiotest.Buffer{{Addr: list.Addr, Len: 7}}, []int{0}},
		{[]virtiotest.Buffer{{Addr: list.Addr, Len: 2}, {Addr: list.Addr + 2, Len: 5}}, []int{0}},
		{[]virtiotest.Buffer{{Addr: list.Addr, Len: 0}}, nil},
		{[]virtiotest.Buffer{{Addr: list.Addr, Len: 8, Write: true}}, nil},
	} {
		g.dirty(4)
		q.Do(c.bufs...)
		assert.Equal(t, c.clean, g.clean(4), "%v", c.bufs)
	}
	assert.Zero(t, g.dev.Counters().Ignored)

	// A list of all of memory is looked at to a bounded length.
	whole := virtiotest.Buffer{Addr: 0, Len: virtiotest.RAMSize}
	g.Queues[deflateQueue].Do(whole, whole, whole)
	n := g.dev.Counters()
	assert.EqualValues(t, maxPages*pageSize, n.Deflated)
	assert.EqualValues(t, 3*virtiotest.RAMSize/entryLen-maxPages, n.Ignored)
}

// TestInflateOfTheRings is the guest's own misfortune (N89).
func TestInflateOfTheRings(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 0, virtiotest.Config{})
	for _, q := range g.Queues {
		for _, addr := range []uint64{q.Desc, q.Avail, q.Used} {
			g.Queues[inflateQueue].Add(g.numbers(uint32(addr / pageSize)))
			g.Queues[inflateQueue].Notify()
			g.Queues[deflateQueue].Notify()
			g.MMIO.Pause()
			g.MMIO.Resume()
			g.Restart()
		}
	}
	g.dirty(2)
	g.Queues[inflateQueue].Do(g.numbers(firstPage))
	assert.Equal(t, []int{0}, g.clean(2))
}

func TestBrokenChains(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]virtiotest.Buffer{
		"out of memory": {Addr: virtiotest.RAMSize - 1, Len: 4},
		"wraps":         {Addr: math.MaxUint64, Len: 4},
		"4 GiB":         {Addr: 0, Len: math.MaxUint32},
	} {
		for i := range 4 {
			g := newGuest(t, time.Second, virtiotest.Config{})
			g.Queues[i].Add(b)
			g.Queues[i].Notify()
			assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest, name)
			g.dirty(2)
			g.Queues[(i+1)%2].Add(g.numbers(firstPage))
			g.Queues[(i+1)%2].Notify()
			g.MMIO.Pause()
			assert.Empty(t, g.clean(2), "nothing is served any more")
			g.Restart()
			g.Queues[inflateQueue].Do(g.numbers(firstPage))
			assert.Equal(t, []int{0}, g.clean(2))
		}
	}
}

// TestReports give free pages back, but no page that is only partly in one.
func TestReports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refuse   uint64
		interval time.Duration
		queue    int
	}{
		"without statistics":       {0, 0, 2},
		"with statistics":          {0, time.Second, 3},
		"statistics not wanted":    {featureStats, time.Second, 2},
		"event indices not wanted": {virtio.FeatureEventIdx, 0, 2},
	} {
		dev, err := New(Config{StatsInterval: c.interval})
		require.NoError(t, err)
		g := &guest{virtiotest.Start(t, dev, virtiotest.Config{Refuse: c.refuse, Indirect: true}), t, dev}
		q := g.Queues[c.queue]
		page := func(at, n uint64) virtiotest.Buffer {
			return virtiotest.Buffer{Addr: pageArea + at, Len: uint32(n), Write: true}
		}
		g.dirty(12)
		q.Do(page(0, pageSize))
		assert.Equal(t, []int{0}, g.clean(12), name)
		q.Do(page(2*pageSize, 2*pageSize), page(6*pageSize, pageSize))
		assert.Equal(t, []int{0, 2, 3, 6}, g.clean(12), name)
		q.Do(page(8*pageSize+1, 3*pageSize), page(7*pageSize, pageSize-1), page(7*pageSize, 100), page(7*pageSize, 0))
		assert.Equal(t, []int{0, 2, 3, 6, 9, 10}, g.clean(12), name)
		var many []virtiotest.Buffer
		for i := range uint64(queueSize) {
			many = append(many, page(i*2*pageSize, pageSize))
		}
		g.dirty(80)
		q.Do(many...)
		assert.Len(t, g.clean(80), queueSize, name)
		q.Do(virtiotest.Buffer{Addr: pageArea, Len: pageSize})
		assert.False(t, g.NeedsReset(), name)
		whole := virtiotest.Buffer{Addr: pageArea, Len: virtiotest.RAMSize - pageArea, Write: true}
		q.Do(whole, whole, whole)
		assert.Len(t, g.clean(80), 80, name)
	}
}

func TestNothingAllocates(t *testing.T) {
	g := newGuest(t, time.Second, virtiotest.Config{})
	list := g.numbers(firstPage, firstPage+1, firstPage+7, math.MaxUint32)
	free := virtiotest.Buffer{Addr: pageArea, Len: 4 * pageSize, Write: true}
	do := func(n int, b virtiotest.Buffer) {
		q := g.Queues[n]
		q.Add(b)
		q.Kick()
		for {
			if _, ok := q.Take(); ok {
				return
			}
			q.Sleep()
		}
	}
	assert.Less(t, testing.AllocsPerRun(200, func() {
		do(inflateQueue, list)
		do(deflateQueue, list)
		do(3, free)
	}), 0.1)
}
