package balloon

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, time.Millisecond, time.Hour} {
		assert.NoError(t, (&Config{StatsInterval: d}).Validate())
	}
	for _, d := range []time.Duration{-1, 1, time.Millisecond - 1} {
		assert.ErrorIs(t, (&Config{StatsInterval: d}).Validate(), ErrConfig)
		_, err := New(Config{StatsInterval: d})
		assert.ErrorIs(t, err, ErrConfig)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	with := newGuest(t, time.Second, virtiotest.Config{})
	assert.EqualValues(t, 5, with.Load(virtiotest.RegDeviceID))
	assert.Len(t, with.Queues, 4)
	assert.EqualValues(t, 1<<1|1<<2|1<<5, with.Features&(1<<24-1))
	without := newGuest(t, 0, virtiotest.Config{})
	assert.Len(t, without.Queues, 3)
	assert.EqualValues(t, 1<<2|1<<5, without.Features&(1<<24-1))
}

func TestTarget(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 0, virtiotest.Config{})
	g.Ack()
	generation := g.Load(virtiotest.RegConfigGeneration)
	require.NoError(t, g.dev.SetTarget(5<<20+1))
	g.IRQ.Wait(t)
	assert.EqualValues(t, 2, g.Ack(), "the configuration changed")
	assert.NotEqual(t, generation, g.Load(virtiotest.RegConfigGeneration))
	assert.EqualValues(t, 5<<20/pageSize, binary.LittleEndian.Uint32(g.Config(0, 4)))
	assert.EqualValues(t, 5<<20, g.dev.Target())
	require.NoError(t, g.dev.SetTarget(5<<20))
	assert.Zero(t, g.Ack(), "that is no change")

	assert.Zero(t, g.dev.Actual())
	g.Store(virtiotest.RegConfig+4, 77)
	assert.EqualValues(t, 77*pageSize, g.dev.Actual())
	g.Store(virtiotest.RegConfig, 99)
	g.Store(virtiotest.RegConfig+8, 99)
	g.MMIO.Write(virtiotest.RegConfig+4, []byte{1})
	assert.EqualValues(t, 5<<20, g.dev.Target(), "not the driver's to write")
	assert.EqualValues(t, 77, binary.LittleEndian.Uint32(g.Config(4, 4)))
	assert.Equal(t, make([]byte, 4), g.Config(8, 4))

	assert.ErrorIs(t, g.dev.SetTarget(1<<44), ErrConfig)
	require.NoError(t, g.dev.SetTarget(1<<44-1))
	assert.Equal(t, []byte{0xff, 0xff, 0xff, 0xff}, g.Config(0, 4))

	g.Restart()
	assert.Zero(t, g.dev.Actual())
	assert.EqualValues(t, 1<<44-pageSize, g.dev.Target(), "the target outlives the driver")
}

func TestTargetBeforeTheDriver(t *testing.T) {
	t.Parallel()
	dev, err := New(Config{})
	require.NoError(t, err)
	require.NoError(t, dev.SetTarget(1<<20))
	g := virtiotest.Start(t, dev, virtiotest.Config{})
	assert.EqualValues(t, 256, binary.LittleEndian.Uint32(g.Config(0, 4)))
}

func TestPauseStopsEverything(t *testing.T) {
	t.Parallel()
	g := newGuest(t, time.Millisecond, virtiotest.Config{})
	g.Queues[statsQueue].Do(g.report(uint64(TagFree), 1))
	g.dirty(4)
	g.MMIO.Pause()
	g.Queues[inflateQueue].Add(g.numbers(firstPage))
	g.Queues[inflateQueue].Notify()
	g.Queues[3].Add(virtiotest.Buffer{Addr: pageArea + pageSize, Len: pageSize, Write: true})
	g.Queues[3].Notify()
	g.Queues[statsQueue].Add(g.report(uint64(TagFree), 2))
	g.Queues[statsQueue].Notify()
	time.Sleep(10 * time.Millisecond)
	assert.Empty(t, g.clean(4))
	s, _ := g.dev.Stats()
	assert.EqualValues(t, 1, s.Free)
	g.MMIO.Resume()
	g.Queues[inflateQueue].Wait()
	g.Queues[3].Wait()
	g.Queues[statsQueue].Wait()
	assert.Equal(t, []int{0, 1}, g.clean(4))
}

// TestSaveAndRestore takes the guest's buffer for statistics along: it comes back from
// the copy, at once.
func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	g := newGuest(t, time.Hour, virtiotest.Config{})
	require.NoError(t, g.dev.SetTarget(3<<20))
	g.Store(virtiotest.RegConfig+4, 77)
	head := g.Queues[statsQueue].Add(g.report(uint64(TagFree), 9))
	g.Queues[statsQueue].Kick()
	g.Eventually(func() bool { _, ok := g.dev.Stats(); return ok }, "statistics")
	g.MMIO.Pause()
	s := g.Save()

	dev, err := New(Config{StatsInterval: time.Hour})
	require.NoError(t, err)
	c := &guest{virtiotest.Restore(t, dev, virtiotest.Config{}, s), t, dev}
	_, ok := dev.Stats()
	assert.False(t, ok, "they were old")
	assert.Equal(t, head, c.Queues[statsQueue].Wait().Head)
	assert.EqualValues(t, 3<<20, dev.Target())
	assert.EqualValues(t, 77*pageSize, dev.Actual())
	c.Queues[statsQueue].Add(c.report(uint64(TagFree), 10))
	c.Queues[statsQueue].Kick()
	c.Eventually(func() bool { s, _ := dev.Stats(); return s.Free == 10 }, "new statistics")
	c.dirty(2)
	c.Queues[inflateQueue].Do(c.numbers(firstPage))
	assert.Equal(t, []int{0}, c.clean(2))
}

// TestSaveAndRestoreTwice without a driver in between.
func TestSaveAndRestoreTwice(t *testing.T) {
	t.Parallel()
	d, err := New(Config{StatsInterval: time.Second})
	require.NoError(t, err)
	want := []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0}
	require.NoError(t, d.RestoreState(want))
	got, err := d.SaveState()
	require.NoError(t, err)
	assert.Equal(t, want, got)
	other := func(i int, v byte) []byte {
		b := bytes.Clone(want)
		b[i] = v
		return b
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": want[:19], "long": append(bytes.Clone(want), 0),
		"version": other(0, 2), "held": other(12, 2), "head": other(16, queueSize),
	} {
		assert.ErrorIs(t, d.RestoreState(b), virtio.ErrState, name)
	}
}

// TestRestoreOfABufferThatIsNotOurs breaks the device, not the host.
func TestRestoreOfABufferThatIsNotOurs(t *testing.T) {
	t.Parallel()
	dev, err := New(Config{StatsInterval: time.Second})
	require.NoError(t, err)
	require.NoError(t, dev.RestoreState([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0}))
	d := virtiotest.New(t, dev, virtiotest.Config{})
	d.Negotiate()
	d.LayOut()
	for _, q := range d.Queues {
		q.Program()
	}
	d.Store(virtiotest.RegStatus, virtiotest.Running)
	assert.ErrorContains(t, d.WaitBroken(), "not popped")
}

func TestDriverWithoutQueues(t *testing.T) {
	t.Parallel()
	dev, err := New(Config{StatsInterval: time.Millisecond})
	require.NoError(t, err)
	d := virtiotest.New(t, dev, virtiotest.Config{})
	d.Negotiate()
	d.Store(virtiotest.RegStatus, virtiotest.Running)
	assert.ErrorIs(t, d.WaitBroken(), virtio.ErrGuest)
	// The two that every driver has are enough.
	d.Negotiate()
	d.LayOut()
	d.Queues[0].Program()
	d.Queues[1].Program()
	d.Store(virtiotest.RegStatus, virtiotest.Running)
	d.Queues[0].Do(virtiotest.Buffer{Addr: listArea, Len: 4})
	assert.False(t, d.NeedsReset())
}

func TestCloseIsForGood(t *testing.T) {
	t.Parallel()
	g := newGuest(t, time.Millisecond, virtiotest.Config{})
	g.Queues[statsQueue].Do(g.report(uint64(TagFree), 1))
	require.NoError(t, g.dev.Close())
	require.NoError(t, g.dev.Close())
	require.NoError(t, g.dev.SetTarget(math.MaxUint32))
	assert.Error(t, g.dev.Activate(virtio.Activation{}))
	g.dev.Pause()
	g.dev.Resume()
	g.dev.Reset()
}
