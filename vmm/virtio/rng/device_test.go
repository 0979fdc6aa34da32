package rng

import (
	"bytes"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const dataArea = virtiotest.DataBase

// counter is a source whose bytes count up.
type counter struct {
	next  byte
	calls atomic.Int32
	err   atomic.Pointer[error]
}

func (c *counter) Read(p []byte) (int, error) {
	c.calls.Add(1)
	if err := c.err.Load(); err != nil {
		return 0, *err
	}
	for i := range p {
		p[i] = c.next
		c.next++
	}
	return len(p), nil
}

func count(n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(&counter{}, b)
	return b
}

func newDriver(t testing.TB, cfg Config) (*virtiotest.Driver, *Device) {
	t.Helper()
	dev, err := New(cfg)
	require.NoError(t, err)
	return virtiotest.Start(t, dev, virtiotest.Config{}), dev
}

func in(off uint64, n uint32) virtiotest.Buffer {
	return virtiotest.Buffer{Addr: dataArea + off, Len: n, Write: true}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{0, 1, 1 << 30} {
		assert.NoError(t, (&Config{Rate: rate}).Validate())
	}
	for _, rate := range []int{-1, 1<<30 + 1} {
		assert.ErrorIs(t, (&Config{Rate: rate}).Validate(), ErrConfig)
		_, err := New(Config{Rate: rate})
		assert.ErrorIs(t, err, ErrConfig)
	}
}

func TestFillsBuffers(t *testing.T) {
	t.Parallel()
	d, dev := newDriver(t, Config{Source: &counter{}})
	assert.EqualValues(t, 4, d.Load(virtiotest.RegDeviceID))
	u := d.Queues[0].Do(in(0, 10), in(100, 1), in(200, 53))
	assert.EqualValues(t, 64, u.Len)
	got := append(append(bytes.Clone(d.Bytes(dataArea, 10)), d.Bytes(dataArea+100, 1)...), d.Bytes(dataArea+200, 53)...)
	assert.Equal(t, count(64), got)
	assert.Zero(t, d.Bytes(dataArea+10, 1)[0])
	assert.EqualValues(t, 64, dev.Served())
	assert.Equal(t, make([]byte, 4), d.Config(0, 4))
}

func TestDefaultSourceIsRandom(t *testing.T) {
	t.Parallel()
	d, _ := newDriver(t, Config{})
	d.Queues[0].Do(in(0, 64))
	first := bytes.Clone(d.Bytes(dataArea, 64))
	d.Queues[0].Do(in(0, 64))
	assert.NotEqual(t, first, bytes.Clone(d.Bytes(dataArea, 64)))
	assert.NotEqual(t, make([]byte, 64), first)
}

// TestOddChains get what fits, a bounded amount, and do no harm (N90).
func TestOddChains(t *testing.T) {
	t.Parallel()
	const whole = virtiotest.RAMSize - dataArea
	for name, c := range map[string]struct {
		bufs []virtiotest.Buffer
		want uint32
	}{
		"nothing to write":       {[]virtiotest.Buffer{{Addr: dataArea, Len: 64}}, 0},
		"no bytes":               {[]virtiotest.Buffer{in(0, 0)}, 0},
		"one byte":               {[]virtiotest.Buffer{in(0, 1)}, 1},
		"something to read":      {[]virtiotest.Buffer{{Addr: dataArea, Len: 64}, in(0, 32)}, 32},
		"too much":               {[]virtiotest.Buffer{in(0, maxFill+1)}, maxFill},
		"giant, overlapping":     {[]virtiotest.Buffer{in(0, whole), in(0, whole), in(1, whole-1), in(0, whole)}, maxFill},
		"more than in 32 bits":   {repeat(in(0, whole), 15), maxFill},
		"short, then a long one": {[]virtiotest.Buffer{in(0, 1), in(0, whole)}, maxFill},
	} {
		d, dev := newDriver(t, Config{Source: &counter{}})
		u := d.Queues[0].Do(c.bufs...)
		assert.Equal(t, c.want, u.Len, name)
		assert.EqualValues(t, c.want, dev.Served(), name)
		assert.False(t, d.NeedsReset(), name)
		u = d.Queues[0].Do(in(0, 8))
		assert.EqualValues(t, 8, u.Len, name)
	}
}

func repeat(b virtiotest.Buffer, n int) (bs []virtiotest.Buffer) {
	for range n {
		bs = append(bs, b)
	}
	return bs
}

func TestBrokenChains(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]virtiotest.Buffer{
		"out of memory": {Addr: virtiotest.RAMSize - 1, Len: 2, Write: true},
		"wraps":         {Addr: math.MaxUint64, Len: 2, Write: true},
		"4 GiB":         {Addr: 0, Len: math.MaxUint32, Write: true},
	} {
		c := &counter{}
		d, _ := newDriver(t, Config{Source: c})
		d.Queues[0].Add(b)
		d.Queues[0].Notify()
		assert.ErrorIs(t, d.WaitBroken(), virtio.ErrGuest, name)
		d.Queues[0].Notify()
		assert.Zero(t, c.calls.Load(), name)
		d.Restart()
		d.Queues[0].Do(in(0, 8))
	}
}

// TestRate keeps a greedy guest to a burst and then to the rate, and serves it in time.
func TestRate(t *testing.T) {
	t.Parallel()
	const rate = 1 << 20
	d, dev := newDriver(t, Config{Source: &counter{}, Rate: rate})
	q := d.Queues[0]
	start := time.Now()
	for range 100 {
		q.Do(in(0, maxFill))
	}
	took := time.Since(start)
	least := time.Duration(100*maxFill-Burst-maxFill) * time.Second / rate
	assert.Greater(t, took, least*95/100)
	assert.EqualValues(t, 100*maxFill, dev.Served())
}

// TestRateOfTinyRequests bounds their number, too.
func TestRateOfTinyRequests(t *testing.T) {
	t.Parallel()
	d, _ := newDriver(t, Config{Source: &counter{}, Rate: minCost * 1000})
	q := d.Queues[0]
	start := time.Now()
	for range Burst/minCost + 100 {
		q.Do(virtiotest.Buffer{Addr: dataArea, Len: 1, Write: true})
	}
	assert.Greater(t, time.Since(start), 90*time.Millisecond)
}

func TestBucket(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := bucket{rate: 1000, burst: 500}
	assert.Zero(t, b.wait(time.Now()))
	assert.Zero(t, b.wait(now))
	b.take(now, 500)
	assert.Zero(t, b.wait(now), "exactly the burst is gone")
	b.take(now, 100)
	assert.Equal(t, 100*time.Millisecond, b.wait(now))
	assert.Equal(t, 40*time.Millisecond, b.wait(now.Add(60*time.Millisecond)))
	now = now.Add(100 * time.Millisecond)
	assert.Zero(t, b.wait(now))
	b.take(now, 1)
	assert.Equal(t, time.Millisecond, b.wait(now))
	now = now.Add(time.Hour)
	b.take(now, 501)
	assert.Equal(t, time.Millisecond, b.wait(now), "a rest gives a burst, no more")
}

// TestSourceFails returns the guest's buffers empty, bounded by the rate, until the
// source works again.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	c := &counter{}
	err := errors.New("no entropy")
	c.err.Store(&err)
	d, dev := newDriver(t, Config{Source: c})
	for range 5 {
		assert.Zero(t, d.Queues[0].Do(in(0, 64)).Len)
	}
	assert.Zero(t, dev.Served())
	c.err.Store(nil)
	assert.EqualValues(t, 64, d.Queues[0].Do(in(0, 64)).Len)
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	c := &counter{}
	d, _ := newDriver(t, Config{Source: c})
	q := d.Queues[0]
	q.Do(in(0, 64))
	d.MMIO.Pause()
	q.Add(in(0, 64))
	q.Notify()
	time.Sleep(10 * time.Millisecond)
	assert.EqualValues(t, 1, c.calls.Load())
	d.MMIO.Resume()
	q.Wait()
}

// TestResetWhileItWaits for its rate leaves nothing behind.
func TestResetWhileItWaits(t *testing.T) {
	t.Parallel()
	c := &counter{}
	d, _ := newDriver(t, Config{Source: c, Rate: 1})
	q := d.Queues[0]
	for range Burst/maxFill + 1 {
		q.Do(in(0, maxFill))
	}
	q.Add(in(0, 1))
	q.Notify()
	n := c.calls.Load()
	d.MMIO.Pause()
	d.Store(virtiotest.RegStatus, 0)
	assert.Equal(t, n, c.calls.Load())
	d.Restart()
	d.Queues[0].Do(in(0, 8))
}

func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	d, dev := newDriver(t, Config{Source: &counter{}})
	d.Queues[0].Do(in(0, 64))
	d.MMIO.Pause()
	d.Queues[0].Add(in(0, 64))
	s := d.Save()
	again, err := New(Config{Source: &counter{}})
	require.NoError(t, err)
	c := virtiotest.Restore(t, again, virtiotest.Config{}, s)
	assert.EqualValues(t, 64, c.Queues[0].Wait().Len)
	c.Queues[0].Do(in(0, 64))
	state, err := dev.SaveState()
	require.NoError(t, err)
	for name, b := range map[string][]byte{"nothing": nil, "long": append(bytes.Clone(state), 0), "version": {2, 0, 0, 0}} {
		assert.ErrorIs(t, again.RestoreState(b), virtio.ErrState, name)
	}
}

func TestCloseIsForGood(t *testing.T) {
	t.Parallel()
	_, dev := newDriver(t, Config{})
	require.NoError(t, dev.Close())
	require.NoError(t, dev.Close())
	assert.Error(t, dev.Activate(virtio.Activation{Queues: make([]*virtio.Queue, 1)}))
	dev.Pause()
	dev.Resume()
	dev.Reset()
}

func TestNothingAllocates(t *testing.T) {
	dev, err := New(Config{Rate: 1 << 30})
	require.NoError(t, err)
	d := virtiotest.Start(t, dev, virtiotest.Config{})
	q := d.Queues[0]
	assert.Less(t, testing.AllocsPerRun(500, func() {
		q.Add(in(0, 256))
		q.Kick()
		for {
			if _, ok := q.Take(); ok {
				return
			}
			q.Sleep()
		}
	}), 0.1)
}

// FuzzRngChains takes any chains; the device fills what it may and stays in its bounds.
func FuzzRngChains(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 64, 0})
	f.Add([]byte{1, 0, 0xff, 0, 0xff, 0xff, 0, 1, 1, 0, 8, 0, 1, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		dev, err := New(Config{Source: &counter{}, Rate: 1 << 30})
		require.NoError(t, err)
		d := virtiotest.Start(t, dev, virtiotest.Config{})
		q := d.Queues[0]
		for n := 0; len(b) >= 6 && n < 10 && !d.NeedsReset(); n++ {
			var bufs []virtiotest.Buffer
			var room uint64
			for len(b) >= 6 && len(bufs) < 16 {
				e := b[:6]
				b = b[6:]
				buf := virtiotest.Buffer{Addr: dataArea + uint64(e[1])<<8 + uint64(e[2])<<20, Len: uint32(e[3])<<16 | uint32(e[5])<<8 | uint32(e[4]), Write: e[0]&1 != 0}
				bufs = append(bufs, buf)
				if buf.Write {
					room += uint64(buf.Len)
				}
				if e[0]&2 != 0 {
					break
				}
			}
			q.Add(bufs...)
			q.Notify()
			d.Eventually(func() bool {
				u, ok := q.Take()
				if ok {
					require.EqualValues(t, min(room, maxFill), u.Len)
				}
				return ok || d.NeedsReset()
			}, "an answer")
		}
	})
}
