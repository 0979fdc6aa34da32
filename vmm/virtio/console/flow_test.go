package console

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// TestStuckConsole (N91, host not reading): the guest's kernel is not held up for longer
// than the patience, and other ports not at all.
func TestStuckConsole(t *testing.T) {
	t.Parallel()
	stuck := newGate()
	var s sink
	g := newGuest(t, Config{Ports: []Port{{Console: true, Output: stuck}, {Name: "x", Output: &s}}}, virtiotest.Config{})
	g.boot()
	line := strings.Repeat("z", 64<<10)
	start := time.Now()
	for range 100 {
		g.print(0, line)
	}
	assert.Less(t, time.Since(start), 10*patience, "one patience, and then none")
	g.print(1, "still here")
	s.holds(t, "still here")
	stuck.open()
	assert.Eventually(t, func() bool { st := g.Stats(0); return st.Written+st.Dropped == 100*uint64(len(line)) }, watchdog, time.Millisecond)
	assert.LessOrEqual(t, g.Stats(0).Written, uint64(3*maxBacklog))
	g.print(0, "recovered")
	assert.Eventually(t, func() bool { return strings.HasSuffix(string(stuck.bytes()), "recovered") }, watchdog, time.Millisecond)
}

// TestStuckPort holds the program in the guest up, loses nothing, and the console lives.
func TestStuckPort(t *testing.T) {
	t.Parallel()
	stuck := newGate()
	var s sink
	g := newGuest(t, Config{Ports: []Port{{Console: true, Output: &s}, {Name: "x", Output: stuck}}}, virtiotest.Config{})
	g.boot()
	line := strings.Repeat("0123456789abcdef", 2048)
	const chains = 20
	for range chains {
		g.printAsync(1, line)
	}
	time.Sleep(2 * patience)
	q := g.Queues[portQueue(1)+1]
	assert.Less(t, q.UsedIndex(), uint16(chains), "most of it waits")
	g.print(0, "still here")
	s.holds(t, "still here")
	stuck.open()
	for range chains {
		q.Wait()
	}
	assert.Eventually(t, func() bool { return g.Stats(1).Written == uint64(chains*len(line)) }, watchdog, time.Millisecond)
	assert.Equal(t, strings.Repeat(line, chains), string(stuck.bytes()))
	assert.Equal(t, PortStats{Written: uint64(chains * len(line))}, g.Stats(1))
}

// TestFailedWriter: the guest learns that a port is closed, its bytes are dropped; a
// console goes on.
func TestFailedWriter(t *testing.T) {
	t.Parallel()
	full := newGate()
	full.err = errors.New("disk full")
	full.open()
	g := newGuest(t, Config{Ports: []Port{{Console: true, Output: full}, {Name: "x", Output: full}}}, virtiotest.Config{})
	g.boot()
	g.print(1, "lost")
	m, _ := g.hears()
	assert.Equal(t, control{id: 1, event: eventPortOpen, value: 0}, m)
	g.print(1, "dropped")
	g.print(0, "lost too")
	assert.Eventually(t, func() bool { return g.Stats(0).Lost == 8 }, watchdog, time.Millisecond)
	assert.Equal(t, PortStats{Lost: 4, Dropped: 7}, g.Stats(1))
	g.hearsNothing()

	// A guest that asks for the port again hears it again.
	g.control(control{id: 1, event: eventPortReady, value: 1})
	var last control
	for range 3 {
		last, _ = g.hears()
	}
	assert.Equal(t, control{id: 1, event: eventPortOpen, value: 0}, last)
}

// TestFlood (N92) writes a gigabyte to a console and to a port that nobody drains: the
// memory of this process stays where it is.
func TestFlood(t *testing.T) {
	stuck := newGate()
	g := newGuest(t, Config{Ports: []Port{{Console: true, Output: stuck}, {Name: "x", Output: stuck}}}, virtiotest.Config{})
	g.boot()
	defer stuck.open()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	huge := virtiotest.Buffer{Addr: 0x100000, Len: 15 << 20}
	port := g.Queues[portQueue(1)+1]
	for port.Free() > 0 {
		port.Add(huge)
	}
	port.Kick()
	console := g.Queues[1]
	for range 1<<30/(16*15<<20) + 1 {
		console.Do(huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge, huge)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
	assert.Zero(t, port.UsedIndex(), "the port waits")
	assert.Greater(t, g.Stats(0).Dropped, uint64(1<<30-3*maxBacklog))
}

// endless is a reader that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestInputIsReadAheadByOneChunk: a guest without buffers does not make the device read.
func TestInputIsReadAheadByOneChunk(t *testing.T) {
	t.Parallel()
	var read counter
	g := newGuest(t, Config{Ports: []Port{{Console: true, Input: io.TeeReader(endless{}, &read)}}}, virtiotest.Config{})
	require.Eventually(t, func() bool { return g.Stats(0).Read == inQueueSize*page }, watchdog, time.Millisecond, "as much as there are buffers")
	time.Sleep(quiet)
	assert.EqualValues(t, inQueueSize*page, g.Stats(0).Read, "and no more")
	assert.LessOrEqual(t, read.bytes(), uint64((inQueueSize+1)*page+chunkSize))
}

// TestNothingAllocates moves bytes both ways.
func TestNothingAllocates(t *testing.T) {
	g := newGuest(t, Config{Ports: []Port{{Console: true, Output: discard{}, Input: endless{}}}}, virtiotest.Config{})
	in, out := g.Queues[0], g.Queues[1]
	bufs := []virtiotest.Buffer{{Addr: g.area(1), Len: 100}}
	step := func() {
		out.Add(bufs...)
		out.Kick()
		for {
			if _, ok := out.Take(); ok {
				break
			}
			out.Sleep()
		}
		for {
			u, ok := in.Take()
			if ok {
				g.post(0, g.slots[0][u.Head])
				in.Kick()
				break
			}
			in.Sleep()
		}
	}
	for range 500 {
		step()
	}
	// A goroutine may be started for each write; the runtime reuses what it needs.
	assert.Less(t, testing.AllocsPerRun(2000, step), 0.1)
	require.NoError(t, g.MMIO.Failure())
}

func BenchmarkOutput(b *testing.B) {
	for name, n := range map[string]uint32{"line": 80, "page": 4096, "64 KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			g := newGuest(b, Config{Ports: []Port{{Console: true, Output: discard{}}}}, virtiotest.Config{})
			q := g.Queues[1]
			bufs := []virtiotest.Buffer{{Addr: g.area(1), Len: n}}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				q.Add(bufs...)
				q.Kick()
				for {
					if _, ok := q.Take(); ok {
						break
					}
					q.Sleep()
				}
			}
		})
	}
}

func BenchmarkInput(b *testing.B) {
	g := newGuest(b, Config{Ports: []Port{{Console: true, Input: endless{}}}}, virtiotest.Config{})
	q := g.Queues[0]
	b.SetBytes(page)
	b.ReportAllocs()
	for b.Loop() {
		for {
			u, ok := q.Take()
			if ok {
				g.post(0, g.slots[0][u.Head])
				q.Kick()
				break
			}
			q.Sleep()
		}
	}
}
