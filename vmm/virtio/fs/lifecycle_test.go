package fs

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// TestSlowRequestsDoNotStopOthers.
func TestSlowRequestsDoNotStopOthers(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	f := &fake{gates: map[uint32]func(){opSyncFS: func() { <-release }}}
	g := newGuest(t, f, virtiotest.Config{})
	var slow []uint64
	for range maxWorkers - 1 {
		slow = append(slow, g.submit(opSyncFS, ""))
	}
	g.Eventually(func() bool { return f.running.Load() == maxWorkers-1 }, "the slow requests")
	for range 50 {
		g.do(opLookup, "name")
		g.do(opRead, "small")
	}
	for _, u := range slow {
		assert.NotContains(t, f.ended(), u)
	}
	close(release)
	for range slow {
		g.q.Wait()
	}
}

// TestBusyDisk moves even light requests to the workers while the host's disks are slow.
func TestBusyDisk(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	f := &fake{gates: map[uint32]func(){opLookup: func() {
		if slow.Load() {
			time.Sleep(10 * time.Millisecond)
		}
	}}}
	g := newGuest(t, f, virtiotest.Config{})
	slow.Store(true)
	g.do(opLookup, "one")
	assert.EqualValues(t, 1, f.most.Load())
	for range maxWorkers {
		g.add(opLookup, "many")
	}
	g.q.Kick()
	for range maxWorkers {
		g.q.Wait()
	}
	assert.Greater(t, f.most.Load(), int32(1), "at the same time")
}

// TestColdReads go to the workers, and run beside each other there.
func TestColdReads(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var entered atomic.Int32
	f := &fake{gates: map[uint32]func(){opRead: func() {
		if entered.Add(1)%2 == 0 { // the patient one of both calls
			<-release
		}
	}}}
	f.cold.Store(true)
	g := newGuest(t, f, virtiotest.Config{})
	g.submit(opRead, "cold")
	g.Eventually(func() bool { return f.running.Load() == 1 }, "the read")
	for range 20 {
		g.do(opLookup, "name")
	}
	close(release)
	g.q.Wait()
	assert.Len(t, f.ended(), 21)
	assert.Zero(t, g.dev.Stats().Aside)
}

// TestWaitingRequests are put aside, as many as there is room for, and cost nobody
// anything.
func TestWaitingRequests(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.held.Store(true)
	g := newGuest(t, f, virtiotest.Config{Indirect: true})
	var waiting []uint64
	for range 200 {
		waiting = append(waiting, g.submit(opSetLockWait, "lock"))
	}
	for range 20 {
		g.do(opLookup, "name")
	}
	g.Eventually(func() bool { return g.dev.Stats().Aside > 1000 }, "new tries")
	assert.Len(t, f.ended(), 20)
	t.Run("a pause stops the tries", func(t *testing.T) {
		g.MMIO.Pause()
		n := g.dev.Stats().Aside
		f.held.Store(false)
		time.Sleep(3 * maxRest)
		assert.Equal(t, n, g.dev.Stats().Aside)
		assert.Len(t, f.ended(), 20)
		_, err := g.dev.SaveState()
		assert.ErrorIs(t, err, ErrBusy)
		g.MMIO.Resume()
	})
	for range waiting {
		g.q.Wait()
	}
	assert.Len(t, f.ended(), 220)
	_, err := g.dev.SaveState()
	assert.NoError(t, err)
}

// TestResetGivesWaitingRequestsUp (N39).
func TestResetGivesWaitingRequestsUp(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.held.Store(true)
	g := newGuest(t, f, virtiotest.Config{})
	for range 10 {
		g.submit(opSetLockWait, "lock")
		g.Eventually(func() bool { return g.dev.Stats().Aside > 0 }, "the request")
		before := f.resets
		g.Store(virtiotest.RegStatus, 0)
		assert.Greater(t, f.resets, before, "the session is over")
		n := g.dev.Stats().Aside
		time.Sleep(2 * minRest)
		assert.Equal(t, n, g.dev.Stats().Aside)
		g.restart()
		g.do(opLookup, "name")
	}
}

// TestPauseDrains leaves no request in flight, takes none up, and loses none.
func TestPauseDrains(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	f := &fake{gates: map[uint32]func(){opFsync: func() { <-release }}}
	g := newGuest(t, f, virtiotest.Config{})
	slow := g.submit(opFsync, "")
	g.Eventually(func() bool { return f.running.Load() == 1 }, "the request")
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
	close(release)
	<-paused
	assert.Contains(t, f.ended(), slow)
	unique := g.submit(opLookup, "name")
	g.Queues[hiprio].Notify()
	time.Sleep(10 * time.Millisecond)
	assert.NotContains(t, f.ended(), unique)
	g.MMIO.Resume()
	g.q.Wait()
	g.q.Wait()
	assert.Contains(t, f.ended(), unique)
}

// TestPauseUnderLoad comes to an end although the guest never stops.
func TestPauseUnderLoad(t *testing.T) {
	t.Parallel()
	f := &fake{}
	g := newGuest(t, f, virtiotest.Config{})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
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
	}()
	for i := range 200 {
		for range 8 {
			g.add([]uint32{opLookup, opRead, opFsync}[i%3], "x")
		}
		g.q.Kick()
		for range 8 {
			g.q.Wait()
		}
	}
	close(stop)
	<-stopped
}

// TestSaveAndRestore moves a guest with requests in the queue to another device.
func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	for name, cfg := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, &fake{}, cfg)
			g.do(opLookup, "name")
			g.MMIO.Pause()
			unique := g.submit(opLookup, "later")
			s := g.Save()

			f := &fake{}
			dev, err := New(Config{Backend: f, Tag: "share"})
			require.NoError(t, err)
			d := virtiotest.Restore(t, dev, cfg, s)
			assert.Equal(t, "session", string(f.restored))
			c := &guest{Driver: d, t: t, dev: dev, q: d.Queues[1], next: g.next}
			c.q.Wait()
			assert.Equal(t, []uint64{unique}, f.ended())
			c.do(opLookup, "name")
			c.restart()
			assert.Positive(t, f.resets)
			c.do(opLookup, "name")
		})
	}
}

// TestMountAtRestore saves a device without a file system, which may then have any.
func TestMountAtRestore(t *testing.T) {
	t.Parallel()
	cfg := virtiotest.Config{}
	g := newGuest(t, Parked(), cfg)
	g.submit(opLookup, "name")
	g.q.Wait()
	g.MMIO.Pause()
	s := g.Save()

	f := &fake{}
	dev, err := New(Config{Backend: f, Tag: "share"})
	require.NoError(t, err)
	d := virtiotest.Restore(t, dev, cfg, s)
	assert.Nil(t, f.restored, "there was no session")
	c := &guest{Driver: d, t: t, dev: dev, q: d.Queues[1], next: g.next}
	c.do(opLookup, "name")
}

func TestParked(t *testing.T) {
	t.Parallel()
	var header [HeaderSize]byte
	binary.LittleEndian.PutUint64(header[8:], 0x1234)
	out := make([]byte, 64)
	n, again := Parked().Serve(&header, nil, [][]byte{out}, true)
	assert.False(t, again)
	assert.EqualValues(t, 16, n)
	assert.EqualValues(t, 16, binary.LittleEndian.Uint32(out))
	assert.EqualValues(t, -19, int32(binary.LittleEndian.Uint32(out[4:])))
	assert.EqualValues(t, 0x1234, binary.LittleEndian.Uint64(out[8:]))
	n, _ = Parked().Serve(&header, nil, [][]byte{out[:8]}, true)
	assert.Zero(t, n, "no room for an answer")
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	f := &fake{}
	d, err := New(Config{Backend: f, Tag: "share"})
	require.NoError(t, err)
	good, err := d.SaveState()
	require.NoError(t, err)
	require.NoError(t, d.RestoreState(good))
	other := func(i int) []byte {
		b := bytes.Clone(good)
		b[i]++
		return b
	}
	for name, b := range map[string][]byte{"nothing": nil, "short": good[:stateHeader-1], "other version": other(0), "other tag": other(5), "other queues": other(40)} {
		assert.ErrorIs(t, d.RestoreState(b), virtio.ErrState, name)
	}
	f.err = errFake
	assert.ErrorIs(t, d.RestoreState(good), errFake)
	assert.ErrorIs(t, d.RestoreState(good), virtio.ErrState)
	_, err = d.SaveState()
	assert.ErrorIs(t, err, errFake)
}

func TestClose(t *testing.T) {
	t.Parallel()
	f := &fake{err: errFake}
	d, err := New(Config{Backend: f, Tag: "share"})
	require.NoError(t, err)
	assert.ErrorIs(t, d.Close(), errFake)
	assert.NoError(t, d.Close(), "it is idempotent")
	assert.Equal(t, 1, f.closed)
	assert.Error(t, d.Activate(virtio.Activation{Queues: make([]*virtio.Queue, 2)}))
	d.Pause()
	d.Resume()
	d.Reset()
	assert.Equal(t, 1, f.resets, "nothing reaches a backend that is closed")
}
