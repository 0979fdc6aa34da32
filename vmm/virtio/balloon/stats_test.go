package balloon

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const soon = 5 * time.Millisecond

// TestStatisticsAreAskedForAgainAndAgain: the guest lends its buffer, which comes back
// when the next report is due.
func TestStatisticsAreAskedForAgainAndAgain(t *testing.T) {
	t.Parallel()
	const interval = 30 * time.Millisecond
	g := newGuest(t, interval, virtiotest.Config{})
	q := g.Queues[statsQueue]
	_, ok := g.dev.Stats()
	assert.False(t, ok)
	for i := range uint64(5) {
		start := time.Now()
		q.Add(g.report(uint64(TagTotal), 1<<30, uint64(TagFree), 100+i, uint64(TagAvailable), 300+i))
		q.Kick()
		u := q.Wait()
		assert.Zero(t, u.Len)
		assert.GreaterOrEqual(t, time.Since(start), interval-time.Millisecond, "the buffer stays for the interval")
		s, ok := g.dev.Stats()
		require.True(t, ok)
		assert.Equal(t, 100+i, s.Free)
		used, ok := s.Used()
		assert.True(t, ok)
		assert.Equal(t, 1<<30-300-i, used)
		assert.WithinDuration(t, start, s.Updated, time.Second)
	}
}

// TestGuestThatKeepsTheBuffer is not asked again and leaves an old report; nothing waits.
func TestGuestThatKeepsTheBuffer(t *testing.T) {
	t.Parallel()
	g := newGuest(t, soon, virtiotest.Config{})
	q := g.Queues[statsQueue]
	q.Do(g.report(uint64(TagFree), 1))
	first, ok := g.dev.Stats()
	require.True(t, ok)
	time.Sleep(10 * soon)
	last, ok := g.dev.Stats()
	assert.True(t, ok)
	assert.Equal(t, first, last)
	g.MMIO.Pause()
	g.MMIO.Resume()
	q.Do(g.report(uint64(TagFree), 2))
	last, _ = g.dev.Stats()
	assert.EqualValues(t, 2, last.Free)
	assert.True(t, last.Updated.After(first.Updated))
	g.Restart()
	_, ok = g.dev.Stats()
	assert.False(t, ok, "another driver, another story")
}

// TestTooManyBuffers stay in the queue until their turn.
func TestTooManyBuffers(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 20*time.Millisecond, virtiotest.Config{})
	q := g.Queues[statsQueue]
	b := g.report(uint64(TagFree), 1)
	for range 4 {
		q.Add(b)
	}
	start := time.Now()
	for range 10 {
		q.Notify()
	}
	for range 4 {
		q.Wait()
	}
	assert.Greater(t, time.Since(start), 75*time.Millisecond)
}

func TestParseStats(t *testing.T) {
	t.Parallel()
	entry := func(tag uint16, value uint64) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint16(nil, tag), value)
	}
	var all []byte
	for tag := range uint16(16) {
		all = append(all, entry(tag, uint64(tag)*10+1)...)
	}
	s := parseStats(all)
	assert.Equal(t, Stats{SwapIn: 1, SwapOut: 11, MajorFaults: 21, MinorFaults: 31, Free: 41, Total: 51, Available: 61, Caches: 71,
		HugeAllocations: 81, HugeFailures: 91, known: 1<<knownTags - 1}, s)
	for tag := range knownTags {
		assert.True(t, s.Has(tag))
	}
	assert.False(t, s.Has(knownTags))
	assert.False(t, s.Has(math.MaxUint16))

	assert.Equal(t, Stats{}, parseStats(nil))
	assert.Equal(t, Stats{}, parseStats(all[:9]), "half an entry")
	assert.Equal(t, Stats{SwapIn: 1, known: 1}, parseStats(all[:19]))
	assert.Equal(t, Stats{}, parseStats(entry(math.MaxUint16, 5)), "an unknown tag")
	assert.Equal(t, Stats{Free: 3, known: 1 << TagFree}, parseStats(append(entry(4, 2), entry(4, 3)...)))
}

func TestUsed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    Stats
		used uint64
		ok   bool
	}{
		{Stats{}, 0, false},
		{Stats{Total: 10, known: 1 << TagTotal}, 0, false},
		{Stats{Available: 10, known: 1 << TagAvailable}, 0, false},
		{Stats{Total: 10, Available: 4, known: 1<<TagTotal | 1<<TagAvailable}, 6, true},
		{Stats{Total: 10, Available: 11, known: 1<<TagTotal | 1<<TagAvailable}, 0, false},
	} {
		used, ok := c.s.Used()
		assert.Equal(t, c.ok, ok)
		assert.Equal(t, c.used, used)
	}
}

// TestOddReports are bounded and lose nothing that is whole.
func TestOddReports(t *testing.T) {
	t.Parallel()
	g := newGuest(t, time.Millisecond, virtiotest.Config{})
	q := g.Queues[statsQueue]
	b := g.report(uint64(TagFree), 7, uint64(TagTotal), 8)
	q.Do(virtiotest.Buffer{Addr: b.Addr, Len: 3}, virtiotest.Buffer{Addr: b.Addr + 3, Len: 12})
	s, ok := g.dev.Stats()
	require.True(t, ok)
	assert.EqualValues(t, 7, s.Free)
	assert.False(t, s.Has(TagTotal))

	q.Do(virtiotest.Buffer{Addr: b.Addr, Len: 20, Write: true})
	s, ok = g.dev.Stats()
	assert.True(t, ok, "it said something, if nothing")
	assert.False(t, s.Has(TagFree))

	whole := virtiotest.Buffer{Addr: pageArea, Len: virtiotest.RAMSize - pageArea}
	start := time.Now()
	for range 20 {
		q.Do(whole, whole)
	}
	assert.Less(t, time.Since(start), 5*time.Second)
	assert.False(t, g.NeedsReset())
}

func TestStatisticsDoNotAllocate(t *testing.T) {
	g := newGuest(t, time.Millisecond, virtiotest.Config{})
	q := g.Queues[statsQueue]
	b := g.report(uint64(TagTotal), 1<<30, uint64(TagFree), 100)
	assert.Less(t, testing.AllocsPerRun(50, func() {
		q.Add(b)
		q.Kick()
		for {
			if _, ok := q.Take(); ok {
				return
			}
			q.Sleep()
		}
	}), 0.5)
}
