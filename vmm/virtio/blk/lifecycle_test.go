package blk

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// TestSlowFlushDoesNotStopReads completes a read that came after a flush before it.
func TestSlowFlushDoesNotStopReads(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	release := make(chan struct{})
	f.flushes = func() { <-release }
	g := newGuest(t, f, virtiotest.Config{})
	flush := g.submit(kindFlush, 0)
	g.Eventually(func() bool { return f.running.Load() == 1 }, "the flush")
	for range 50 {
		g.read(0, 512)
		g.write(3, noise(512))
		g.ok(kindGetID, 0, in(0, 20))
	}
	assert.EqualValues(t, noStatus, g.result(flush))
	close(release)
	g.q.Wait()
	assert.Equal(t, statusOK, g.result(flush))
	assert.NotContains(t, f.done()[:100], "flush")
}

// TestReadsRunTogether keeps as many of them in the backend as there are workers.
func TestReadsRunTogether(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	release := make(chan struct{})
	f.reads = func() { <-release }
	g := newGuest(t, f, virtiotest.Config{})
	for range 20 {
		g.add(kindRead, 0, in(0, 512))
	}
	g.q.Kick()
	g.Eventually(func() bool { return f.running.Load() >= maxWorkers }, "reads")
	time.Sleep(5 * time.Millisecond)
	assert.LessOrEqual(t, f.running.Load(), int32(maxWorkers+1))
	close(release)
	for range 20 {
		g.q.Wait()
	}
}

// TestFlushCoversCompletedWrites: the backend has the data of each completed write before
// it is asked to flush.
func TestFlushCoversCompletedWrites(t *testing.T) {
	t.Parallel()
	f := newFake(256)
	g := newGuest(t, f, virtiotest.Config{})
	for range 50 {
		slots := []int{}
		for i := range 10 {
			slots = append(slots, g.add(kindWrite, uint64(i), out(0, 512)))
		}
		g.q.Kick()
		for range slots {
			g.q.Wait()
		}
		g.ok(kindFlush, 0)
		log := f.done()
		require.Equal(t, "flush", log[len(log)-1])
		require.NotContains(t, log[len(log)-11:len(log)-1], "flush")
	}
}

// TestWriteThrough makes each write durable for a driver that does not flush.
func TestWriteThrough(t *testing.T) {
	t.Parallel()
	f := newFake(256)
	g := newGuest(t, f, virtiotest.Config{Refuse: featureFlush})
	g.write(0, noise(512))
	g.write(1, noise(512))
	g.ok(kindWriteZeroes, 0, g.ranges([3]uint64{0, 8, flagUnmap}, [3]uint64{0, 8, 0}))
	assert.Equal(t, []string{"write", "flush", "write", "flush", "unmap", "flush", "zero", "flush"}, f.done())
}

// TestPauseDrains leaves no request in flight, takes none up, and loses none.
func TestPauseDrains(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	var slow atomic.Bool
	f.flushes = func() {
		for slow.Load() {
			time.Sleep(time.Millisecond)
		}
	}
	g := newGuest(t, f, virtiotest.Config{})
	slow.Store(true)
	flush := g.submit(kindFlush, 0)
	g.Eventually(func() bool { return f.running.Load() == 1 }, "the flush")
	paused := make(chan struct{})
	go func() {
		g.MMIO.Pause()
		close(paused)
	}()
	select {
	case <-paused:
		t.Fatal("paused with a request in flight")
	case <-time.After(20 * time.Millisecond):
	}
	slow.Store(false)
	<-paused
	assert.Equal(t, statusOK, g.result(flush))
	g.MMIO.Pause()
	slot := g.add(kindRead, 0, in(0, 512))
	g.q.Notify()
	time.Sleep(10 * time.Millisecond)
	assert.EqualValues(t, noStatus, g.result(slot))
	g.MMIO.Resume()
	g.q.Wait()
	g.q.Wait()
	assert.Equal(t, statusOK, g.result(slot))
	g.MMIO.Resume()
	g.ok(kindFlush, 0)
}

// TestPauseUnderLoad comes to an end although the guest never stops.
func TestPauseUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	g := newGuest(t, f, virtiotest.Config{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				g.MMIO.Pause()
				assert.Zero(t, f.running.Load())
				g.MMIO.Resume()
				time.Sleep(50 * time.Microsecond)
			}
		}
	})
	for range 200 {
		for range 8 {
			g.add(kindRead, 0, in(0, 4096))
		}
		g.q.Kick()
		for range 8 {
			g.q.Wait()
		}
	}
	close(stop)
	wg.Wait()
}

// TestResetWaits completes nothing after it (N39).
func TestResetWaits(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	var entered atomic.Int32
	f.reads = func() {
		entered.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
	g := newGuest(t, f, virtiotest.Config{})
	for range 20 {
		n := entered.Load()
		for range 6 {
			g.add(kindRead, 0, in(0, 512))
		}
		g.q.Notify()
		g.Eventually(func() bool { return entered.Load() > n }, "a read")
		g.Store(virtiotest.RegStatus, 0)
		assert.Zero(t, f.running.Load())
		used := g.q.UsedIndex()
		clear(g.data(0, 512))
		time.Sleep(time.Millisecond)
		assert.Equal(t, used, g.q.UsedIndex())
		g.restart()
	}
	g.read(0, 512)
}

// TestSaveAndRestore moves a guest with requests in the queue to another device on the
// same disk.
func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	for name, cfg := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(64)
			copy(f.data, noise(len(f.data)))
			g := newGuest(t, f, cfg)
			g.write(5, noise(1024))
			g.MMIO.Pause()
			slot := g.add(kindRead, 5, in(0, 1024))
			s := g.Save()

			dev, err := New(Config{Backend: f})
			require.NoError(t, err)
			d := virtiotest.Restore(t, dev, cfg, s)
			c := &guest{Driver: d, t: t, dev: dev, q: d.Queues[0], slot: g.slot}
			c.q.Wait()
			assert.Equal(t, statusOK, c.result(slot))
			assert.Equal(t, noise(1024), append([]byte(nil), c.data(0, 1024)...))
			c.write(9, noise(512))
			assert.Equal(t, noise(512), c.read(9, 512))
			state, err := dev.SaveState()
			require.NoError(t, err)
			again, err := g.dev.SaveState()
			require.NoError(t, err)
			assert.Equal(t, again, state)
		})
	}
}

// TestInsertAtRestore saves a device without a disk, which may then have any.
func TestInsertAtRestore(t *testing.T) {
	t.Parallel()
	cfg := virtiotest.Config{}
	g := newGuest(t, Parked(false), cfg)
	got, _ := g.do(kindRead, 0, in(0, 512))
	assert.Equal(t, statusIOError, got, "there is no sector")
	g.MMIO.Pause()
	s := g.Save()

	f := newFake(64)
	copy(f.data, noise(len(f.data)))
	dev, err := New(Config{Backend: f})
	require.NoError(t, err)
	d := virtiotest.Restore(t, dev, cfg, s)
	c := &guest{Driver: d, t: t, dev: dev, q: d.Queues[0], slot: g.slot}
	assert.EqualValues(t, 2, c.Ack()&2, "the driver hears that the configuration changed")
	assert.Equal(t, f.data[:512], c.read(0, 512))

	other, err := New(Config{Backend: Parked(true)})
	require.NoError(t, err)
	state, err := g.dev.SaveState()
	require.NoError(t, err)
	assert.ErrorIs(t, other.RestoreState(state), virtio.ErrState, "read-only and not")
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	d, err := New(Config{Backend: newFake(64)})
	require.NoError(t, err)
	good, err := d.SaveState()
	require.NoError(t, err)
	require.NoError(t, d.RestoreState(good))
	other := func(i int) []byte {
		b := bytes.Clone(good)
		b[i]++
		return b
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": good[:15], "long": append(bytes.Clone(good), 0),
		"other version": other(0), "read-only": other(4), "other size": other(8), "far other size": other(15),
	} {
		assert.ErrorIs(t, d.RestoreState(b), virtio.ErrState, name)
	}
}

// TestCloseFlushes what the guest did not, and only that.
func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(*guest)
		want []string
	}{
		"nothing written":   {func(g *guest) { g.read(0, 512) }, []string{"read"}},
		"written":           {func(g *guest) { g.write(0, noise(512)) }, []string{"write", "flush"}},
		"zeroed":            {func(g *guest) { g.ok(kindWriteZeroes, 0, g.ranges([3]uint64{0, 1, 0})) }, []string{"zero", "flush"}},
		"written, flushed":  {func(g *guest) { g.write(0, noise(512)); g.ok(kindFlush, 0) }, []string{"write", "flush"}},
		"flushed, written":  {func(g *guest) { g.ok(kindFlush, 0); g.write(0, noise(512)) }, []string{"flush", "write", "flush"}},
		"closed in a pause": {func(g *guest) { g.write(0, noise(512)); g.MMIO.Pause() }, []string{"write", "flush"}},
	} {
		f := newFake(64)
		g := newGuest(t, f, virtiotest.Config{})
		c.do(g)
		require.NoError(t, g.dev.Close())
		assert.True(t, f.closed.Load(), name)
		assert.Equal(t, c.want, f.done(), name)
		require.NoError(t, g.dev.Close(), "it is idempotent")
		assert.Error(t, g.dev.Activate(virtio.Activation{Queues: make([]*virtio.Queue, 1)}))
	}
}

// TestVolatile flushes nothing of a disk whose content nobody wants, from when that is known.
func TestVolatile(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	var known atomic.Bool
	g := newGuestOf(t, Config{Backend: f, Volatile: known.Load}, virtiotest.Config{})
	g.write(0, noise(512))
	g.ok(kindFlush, 0)
	known.Store(true)
	g.write(0, noise(512))
	g.ok(kindFlush, 0)
	require.NoError(t, g.dev.Close())
	assert.Equal(t, []string{"write", "flush", "write"}, f.done())
	assert.True(t, f.closed.Load())

	f = newFake(64)
	g = newGuestOf(t, Config{Backend: f, Volatile: known.Load}, virtiotest.Config{Refuse: featureFlush})
	g.write(0, noise(512))
	assert.Equal(t, []string{"write"}, f.done(), "not after each write for an old driver either")
}

// TestFullHost says in the log what no space on the host means, not what the request was.
func TestFullHost(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	var log bytes.Buffer
	g := newGuestOf(t, Config{Backend: f, Logger: slog.New(slog.NewTextHandler(&log, nil))}, virtiotest.Config{})
	f.fail(&os.PathError{Op: "write", Path: "/disk", Err: syscall.ENOSPC})
	s, _ := g.do(kindWrite, 0, out(0, 512))
	assert.Equal(t, statusIOError, s)
	f.fail(nil)
	g.dev.Reset()
	assert.Contains(t, log.String(), "the host's disk is full")
	assert.Contains(t, log.String(), "/disk: no space left on device")
}

// TestFailedFlushIsTriedAgain at Close, which reports it.
func TestFailedFlushIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	d, err := New(Config{Backend: f})
	require.NoError(t, err)
	g := virtiotest.Start(t, d, virtiotest.Config{})
	gg := &guest{Driver: g, t: t, dev: d, q: g.Queues[0]}
	gg.write(0, noise(512))
	gone := errors.New("disk is gone")
	f.fail(gone)
	s, _ := gg.do(kindFlush, 0)
	assert.Equal(t, statusIOError, s)
	assert.ErrorIs(t, d.Close(), gone)
	assert.Equal(t, []string{"write", "flush", "flush"}, f.done())
}

func TestActivateNeedsAQueue(t *testing.T) {
	t.Parallel()
	d, err := New(Config{Backend: newFake(1)})
	require.NoError(t, err)
	g := virtiotest.New(t, d, virtiotest.Config{})
	g.Negotiate()
	g.Store(virtiotest.RegStatus, virtiotest.Running)
	assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest)
}
