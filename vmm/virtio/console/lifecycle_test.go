package console

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// counter is a writer that counts.
type counter struct{ n atomic.Uint64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(uint64(len(p)))
	return len(p), nil
}

func (c *counter) bytes() uint64 { return c.n.Load() }

func TestPauseHoldsEverythingAndResumeLosesNothing(t *testing.T) {
	t.Parallel()
	var s sink
	r, w := source(t)
	cfg := two(&s)
	cfg.Ports[1].Input = r
	g := newGuest(t, cfg, virtiotest.Config{})
	g.boot()
	g.MMIO.Pause()
	before := slices.Clone(g.Bytes(0, virtiotest.RAMSize))
	feed(t, w, "input")
	g.Resize(Size{Cols: 1, Rows: 2})
	for _, q := range g.Queues {
		q.Notify()
	}
	time.Sleep(quiet)
	assert.True(t, slices.Equal(before, g.Bytes(0, virtiotest.RAMSize)), "guest memory at rest")
	g.printAsync(1, "output")
	time.Sleep(quiet)
	assert.Empty(t, s.String())
	g.MMIO.Resume()
	assert.Equal(t, "input", g.reads(1, 5))
	g.Queues[5].Wait()
	s.holds(t, "output")
	m, _ := g.hears()
	assert.Equal(t, eventResize, m.event)
}

// TestPauseUsesUpWhatIsPartlyTaken: a saved guest would wait for it for ever.
func TestPauseUsesUpWhatIsPartlyTaken(t *testing.T) {
	t.Parallel()
	stuck := newGate()
	g := newGuest(t, Config{Ports: []Port{{Name: "x", Output: stuck}}}, virtiotest.Config{})
	g.boot()
	line := strings.Repeat("0123456789abcdef", 4096)
	for range 4 {
		g.printAsync(0, line)
	}
	time.Sleep(quiet)
	g.MMIO.Pause()
	taken := g.Queues[1].UsedIndex()
	assert.NotZero(t, taken)
	s := g.Save()
	g.MMIO.Resume()

	other := newGate()
	d, err := New(Config{Ports: []Port{{Name: "x", Output: other}}})
	require.NoError(t, err)
	c := virtiotest.Restore(t, d, virtiotest.Config{}, s)
	other.open()
	for range 4 {
		c.Queues[1].Wait()
	}
	assert.Eventually(t, func() bool { return len(other.bytes()) == (4-int(taken))*len(line) }, watchdog, time.Millisecond, "the copy writes what the original had not taken")
	stuck.open()
	for range 4 {
		g.Queues[1].Wait()
	}
	assert.Eventually(t, func() bool { return g.Stats(0).Written == 4*uint64(len(line)) }, watchdog, time.Millisecond, "the original loses nothing")
}

func TestRestore(t *testing.T) {
	t.Parallel()
	var s sink
	g := newGuest(t, two(&s), virtiotest.Config{})
	g.boot()
	g.Resize(Size{Cols: 7, Rows: 8})
	g.hears()
	g.MMIO.Pause()
	snapshot := g.Save()
	g.MMIO.Resume()

	var out sink
	d, err := New(two(&out))
	require.NoError(t, err)
	c := &guest{t: t, Device: d, Driver: virtiotest.Restore(t, d, virtiotest.Config{}, snapshot), slots: g.slots}
	assert.Equal(t, []byte{7, 0, 8, 0}, c.Config(0, 4))
	c.print(1, "no new handshake")
	out.holds(t, "no new handshake")
	c.Resize(Size{Cols: 9, Rows: 9})
	m, _ := c.hears()
	assert.Equal(t, eventResize, m.event)
	c.restart()
	assert.Len(t, c.boot(), 2)
}

// TestRestoreOfABrokenDevice: the next driver starts from nothing.
func TestRestoreOfABrokenDevice(t *testing.T) {
	t.Parallel()
	var s sink
	g := newGuest(t, two(&s), virtiotest.Config{})
	g.boot()
	g.Queues[1].SetAvailable(g.Queues[1].Next + 1000)
	g.Queues[1].Notify()
	g.WaitBroken()
	g.MMIO.Pause()
	d, err := New(two(&s))
	require.NoError(t, err)
	c := virtiotest.Restore(t, d, virtiotest.Config{}, g.Save())
	assert.True(t, c.NeedsReset())
	c.Restart()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.ports {
		assert.False(t, p.ready || p.open)
		assert.Zero(t, p.pending)
	}
}

func TestStateIsChecked(t *testing.T) {
	t.Parallel()
	var s sink
	g := newGuest(t, two(&s), virtiotest.Config{})
	g.boot()
	g.MMIO.Pause()
	good, err := g.SaveState()
	require.NoError(t, err)
	assert.Equal(t, []byte{1, 0, 0, 0, 80, 0, 24, 0, 2, 0, 0, 0, 3, 0, 3, 0}, good, "an old checkpoint must stay readable")
	fresh := func() *Device {
		d, err := New(two(&s))
		require.NoError(t, err)
		return d
	}
	for n := range len(good) {
		assert.ErrorIs(t, fresh().RestoreState(good[:n]), virtio.ErrState, "%d bytes", n)
	}
	assert.ErrorIs(t, fresh().RestoreState(append(slices.Clone(good), 0)), virtio.ErrState)
	for bit := range 8 * len(good) {
		b := slices.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		d := fresh()
		if err := d.RestoreState(b); err != nil {
			assert.ErrorIs(t, err, virtio.ErrState)
			assert.Zero(t, d.ports[0].pending)
			continue
		}
		again, err := d.SaveState()
		require.NoError(t, err)
		assert.Equal(t, b, again, "bit %d", bit)
	}
	one, err := New(Config{Ports: []Port{{Console: true}}})
	require.NoError(t, err)
	assert.ErrorIs(t, one.RestoreState(good), virtio.ErrState)
}

func TestResetOften(t *testing.T) {
	t.Parallel()
	var s sink
	g := newGuest(t, two(&s), virtiotest.Config{})
	for range 50 {
		g.boot()
		g.print(1, ".")
		g.restart()
	}
	s.holds(t, strings.Repeat(".", 50))
}

// TestResetWithAStuckWriter returns at once, and what was taken is still written.
func TestResetWithAStuckWriter(t *testing.T) {
	t.Parallel()
	stuck := newGate()
	g := newGuest(t, Config{Ports: []Port{{Name: "x", Output: stuck}}}, virtiotest.Config{})
	g.boot()
	line := strings.Repeat("x", 128<<10)
	g.printAsync(0, line)
	time.Sleep(quiet)
	start := time.Now()
	g.restart()
	assert.Less(t, time.Since(start), grace/2)
	g.boot()
	g.printAsync(0, "second driver")
	stuck.open()
	g.Queues[1].Wait()
	assert.Eventually(t, func() bool { return strings.HasSuffix(string(stuck.bytes()), "second driver") }, watchdog, time.Millisecond)
}

func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("with a stuck writer", func(t *testing.T) {
		t.Parallel()
		stuck := newGate()
		g := newGuest(t, Config{Ports: []Port{{Console: true, Output: stuck}, {Name: "x", Output: stuck}}}, virtiotest.Config{})
		g.boot()
		g.print(0, "a")
		g.print(1, "b")
		start := time.Now()
		require.NoError(t, g.MMIO.Close())
		assert.Less(t, time.Since(start), 2*grace, "both wait at once")
		stuck.open()
	})
	t.Run("while paused", func(t *testing.T) {
		t.Parallel()
		r, _ := source(t)
		g := newGuest(t, Config{Ports: []Port{{Console: true, Input: r}}}, virtiotest.Config{})
		g.MMIO.Pause()
		g.printAsync(0, "never")
		require.NoError(t, g.MMIO.Close())
		assert.Zero(t, g.Stats(0).Written, "a saved machine's output is not written twice")
	})
	t.Run("again and without a driver", func(t *testing.T) {
		t.Parallel()
		r, _ := source(t)
		d, err := New(Config{Ports: []Port{{Console: true, Input: r}}})
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.NoError(t, d.Close())
		d.Pause()
		d.Resume()
		d.Reset()
	})
}

// TestManyAtOnce has the guest, the host and the machine at work on all ports at the
// same time.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var all counter
	cfg := Config{Size: Size{80, 24}}
	for i := range 8 {
		cfg.Ports = append(cfg.Ports, Port{Console: i%2 == 0, Output: &all, Input: endless{}})
	}
	g := newGuest(t, cfg, virtiotest.Config{})
	g.boot()
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint16(0); !stop.Load(); i++ {
			g.Resize(Size{Cols: i, Rows: i})
			g.Stats(int(i % 8))
			time.Sleep(pollStep)
		}
	})
	wg.Go(func() {
		for !stop.Load() {
			g.MMIO.Pause()
			_, err := g.MMIO.SaveState()
			assert.NoError(t, err)
			g.MMIO.Resume()
			time.Sleep(pollStep)
		}
	})
	const rounds = 100
	for range rounds {
		for port := range 8 {
			g.printAsync(port, "0123456789")
		}
		for port := range 8 {
			g.Queues[portQueue(port)+1].Wait()
			g.reads(port, 1)
		}
		for {
			if _, ok := g.take(controlIn); !ok {
				break
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	assert.Eventually(t, func() bool { return all.bytes() == rounds*80 }, watchdog, time.Millisecond)
	assert.NoError(t, g.MMIO.Failure())
}

const pollStep = 100 * time.Microsecond
