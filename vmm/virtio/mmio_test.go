package virtio_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	ack, driver      = virtio.StatusAcknowledge, virtio.StatusDriver
	featuresOK       = virtio.StatusFeaturesOK
	driverOK         = virtio.StatusDriverOK
	failed           = virtio.StatusFailed
	version1         = virtio.FeatureVersion1
	usedInterrupt    = 1
	configInterrupt  = 2
	registers        = uint64(virtiotest.RegConfig)
	queueRegisterEnd = 0x0a8
)

// idle is a transport in front of a device with two queues and eight bytes of
// configuration, not initialised.
func idle(t testing.TB) (*virtiotest.Driver, *virtiotest.Device) {
	t.Helper()
	dev := &virtiotest.Device{Type: 42, Offer: 1<<3 | 1<<40, Sizes: []uint16{size, 64}, Space: []byte("abcdefgh"), State: []byte("state")}
	return virtiotest.New(t, dev, virtiotest.Config{}), dev
}

// snapshot is all that the driver can have changed.
func snapshot(t testing.TB, d *virtiotest.Driver) []byte {
	t.Helper()
	b, err := d.MMIO.SaveState()
	require.NoError(t, err)
	return b
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	d, _ := idle(t)
	assert.EqualValues(t, 0x74726976, d.Load(virtiotest.RegMagic))
	assert.EqualValues(t, 2, d.Load(virtiotest.RegVersion))
	assert.EqualValues(t, 42, d.Load(virtiotest.RegDeviceID))
	assert.NotZero(t, d.Load(virtiotest.RegVendorID))
	assert.Equal(t, uint64(1<<3|1<<28|1<<29|1<<32|1<<40), d.Offered())
	d.Store(virtiotest.RegDeviceFeatSel, 2)
	assert.Zero(t, d.Load(virtiotest.RegDeviceFeatures), "there are 64 bits")
	for reg := uint64(0xb0); reg <= 0xbc; reg += 4 {
		assert.EqualValues(t, 0xffffffff, d.Load(reg), "no shared memory")
	}
	assert.EqualValues(t, 16, maxOf(d, 0))
	assert.EqualValues(t, 64, maxOf(d, 1))
	assert.Zero(t, maxOf(d, 2))
}

func maxOf(d *virtiotest.Driver, queue uint32) uint32 {
	d.Store(virtiotest.RegQueueSel, queue)
	return d.Load(virtiotest.RegQueueNumMax)
}

// TestAccessWidths (N31) loads and stores at every offset with every width, before and
// after initialisation: only aligned 32-bit accesses are accesses to registers.
func TestAccessWidths(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(d *virtiotest.Driver){
		"N31 fresh":   func(*virtiotest.Driver) {},
		"N31 running": func(d *virtiotest.Driver) { d.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := idle(t)
			prepare(d)
			before := snapshot(t, d)
			for off := range registers {
				for _, width := range []int{0, 1, 2, 3, 4, 5, 8, 16} {
					p := make([]byte, width)
					for i := range p {
						p[i] = 0xa5
					}
					if width == 4 && off%4 == 0 {
						continue
					}
					d.MMIO.Write(off, p)
					d.MMIO.Read(off, p)
					assert.Equal(t, make([]byte, width), p, "%d bytes at %#x", width, off)
				}
			}
			assert.Equal(t, before, snapshot(t, d))
			for off := uint64(0); off < registers; off += 4 { // those that are read-only or nothing
				switch off {
				case virtiotest.RegDeviceFeatSel, virtiotest.RegDriverFeatSel, virtiotest.RegQueueSel, virtiotest.RegStatus:
				default:
					for _, v := range []uint32{0, 1, 0x7fffffff, 0xffffffff} {
						d.Store(off, v)
						d.Load(off)
					}
				}
			}
			assert.Equal(t, before, snapshot(t, d))
		})
	}
}

// TestQueueSelection (N32) stores to the registers of queues that do not exist.
func TestQueueSelection(t *testing.T) {
	t.Parallel()
	for _, sel := range []uint32{2, 3, 255, 0x7fffffff, 0x80000000, 0xffffffff} {
		t.Run(fmt.Sprintf("N32 queue %#x", sel), func(t *testing.T) {
			t.Parallel()
			d, _ := idle(t)
			d.Negotiate()
			d.Store(virtiotest.RegQueueSel, sel)
			before := snapshot(t, d)
			assert.Zero(t, d.Load(virtiotest.RegQueueNumMax))
			for reg := uint64(virtiotest.RegQueueNum); reg < queueRegisterEnd; reg += 4 {
				if reg != virtiotest.RegStatus {
					d.Store(reg, 8)
					d.Load(reg)
				}
			}
			assert.Equal(t, before, snapshot(t, d))
			assert.Zero(t, d.Load(virtiotest.RegQueueReady))
		})
	}
}

func TestQueueSizes(t *testing.T) {
	t.Parallel()
	for num, ready := range map[uint32]uint32{
		0: 0, 1: 1, 2: 1, 3: 0, 8: 1, 15: 0, 16: 1, 17: 0, 32: 0, 0x10010: 0, 0x10000: 0, 0x80000000: 0, 0xffffffff: 0,
	} {
		t.Run(fmt.Sprintf("N33 %#x", num), func(t *testing.T) {
			t.Parallel()
			d, dev := idle(t)
			d.Negotiate()
			d.LayOut()
			q := d.Queues[0]
			q.Program()
			d.Store(virtiotest.RegQueueReady, 0)
			d.Store(virtiotest.RegQueueNum, num)
			d.Store(virtiotest.RegQueueReady, 1)
			assert.Equal(t, ready, d.Load(virtiotest.RegQueueReady))
			d.Store(virtiotest.RegStatus, virtiotest.Running)
			require.False(t, d.NeedsReset())
			if ready == 0 {
				assert.Nil(t, dev.Active.Queues[0])
				return
			}
			assert.EqualValues(t, num, dev.Active.Queues[0].Size())
		})
	}
}

// TestFrozenRegisters (N34) stores to every queue register while it must not change.
func TestFrozenRegisters(t *testing.T) {
	t.Parallel()
	scribble := func(d *virtiotest.Driver, except uint64) {
		for i := range uint32(2) {
			d.Store(virtiotest.RegQueueSel, i)
			for reg := uint64(virtiotest.RegQueueNum); reg < queueRegisterEnd; reg += 4 {
				switch reg {
				case except, virtiotest.RegQueueNotify, virtiotest.RegInterruptACK, virtiotest.RegStatus:
				default:
					for _, v := range []uint32{0, 1, 4, 0xfffff000, 0xffffffff} {
						d.Store(reg, v)
					}
				}
			}
		}
		d.Store(virtiotest.RegQueueSel, 0)
	}
	for name, c := range map[string]struct {
		prepare func(d *virtiotest.Driver)
		except  uint64
	}{
		"N34 before FEATURES_OK": {prepare: func(d *virtiotest.Driver) {
			d.Store(virtiotest.RegStatus, ack|driver)
		}},
		"N34 after QueueReady": {except: virtiotest.RegQueueReady, prepare: func(d *virtiotest.Driver) {
			d.Negotiate()
			d.LayOut()
			d.Queues[0].Program()
			d.Queues[1].Program()
		}},
		"N34 after DRIVER_OK":             {prepare: func(d *virtiotest.Driver) { d.Restart() }},
		"N34 after DRIVER_OK, not all up": {prepare: func(d *virtiotest.Driver) { startFirst(d) }},
		"N34 after FAILED": {prepare: func(d *virtiotest.Driver) {
			d.Restart()
			d.Store(virtiotest.RegStatus, virtiotest.Running|failed)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := idle(t)
			c.prepare(d)
			d.Store(virtiotest.RegQueueSel, 0)
			before := snapshot(t, d)
			scribble(d, c.except)
			assert.Equal(t, before, snapshot(t, d))
		})
	}
}

// startFirst leaves queue 1 out.
func startFirst(d *virtiotest.Driver) {
	d.Negotiate()
	d.LayOut()
	d.Queues[0].Program()
	d.Store(virtiotest.RegStatus, virtiotest.Running)
}

func TestAbsentQueue(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	startFirst(d)
	require.Len(t, dev.Active.Queues, 2)
	assert.NotNil(t, dev.Active.Queues[0])
	assert.Nil(t, dev.Active.Queues[1])
	d.Store(virtiotest.RegQueueNotify, 1) // nobody listens
	assert.False(t, d.NeedsReset())
}

// TestStatusMachine tries every sequence of two status values after each good start.
func TestStatusMachine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ writes, reads []uint32 }{
		"step by step":                    {[]uint32{ack, ack | driver, 11, 15}, []uint32{ack, ack | driver, 11, 15}},
		"two at once":                     {[]uint32{3, 11, 15}, []uint32{3, 11, 15}},
		"N35 bit taken back":              {[]uint32{3, 1, 2, 11, 3, 8}, []uint32{3, 3, 3, 11, 11, 11}},
		"N35 bit taken back when it runs": {[]uint32{3, 11, 15, 11, 7, 4, 15}, []uint32{3, 11, 15, 15, 15, 15, 15}},
		"N36 DRIVER_OK too early":         {[]uint32{3, 7, 15, 4, 11, 15}, []uint32{3, 3, 3, 3, 11, 15}},
		"DRIVER without ACKNOWLEDGE":      {[]uint32{2, 10, 1, 3}, []uint32{0, 0, 1, 3}},
		"FEATURES_OK without DRIVER":      {[]uint32{8, 9, 1, 9, 3, 11}, []uint32{0, 0, 1, 1, 3, 11}},
		"the driver gives up":             {[]uint32{3, 0x83, 0x8b, 0x8f, 0}, []uint32{3, 0x83, 0x8b, 0x8f, 0}},
		"NEEDS_RESET is not the driver's": {[]uint32{0x43, 0x4b, 0x4f}, []uint32{3, 11, 15}},
		"unknown bits":                    {[]uint32{0x33, 0xffffff0b, 0x10f}, []uint32{3, 11, 15}},
		"reset in between":                {[]uint32{3, 11, 0, 15, 3}, []uint32{3, 11, 0, 0, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, dev := idle(t)
			for i, v := range c.writes {
				d.Accept(version1) // where it is allowed
				d.Store(virtiotest.RegStatus, v)
				require.Equal(t, c.reads[i], d.Load(virtiotest.RegStatus), "write %d", i)
				running := c.reads[i]&driverOK != 0 && c.reads[i]&failed == 0
				require.Equal(t, running, dev.Activated > dev.Resets, "write %d", i)
			}
			assert.LessOrEqual(t, dev.Activated, 1)
		})
	}
}

func TestStatusExhaustively(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	for first := range uint32(256) {
		for second := range uint32(256) {
			d.Store(virtiotest.RegStatus, 0)
			dev.Activated = 0
			d.Store(virtiotest.RegStatus, 3)
			d.Accept(version1)
			d.Store(virtiotest.RegStatus, 11)
			d.Store(virtiotest.RegStatus, first)
			d.Store(virtiotest.RegStatus, second)
			s := d.Load(virtiotest.RegStatus)
			switch {
			case second == 0:
				require.Zero(t, s)
			case s&driverOK != 0:
				require.EqualValues(t, 15, s&15, "%#x %#x", first, second)
			}
			if s&(driverOK|failed) == driverOK && second != 0 {
				require.Equal(t, 1, dev.Activated, "%#x %#x", first, second)
			}
			require.LessOrEqual(t, dev.Activated, 1)
		}
	}
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accept uint64
		good   bool
	}{
		"all":                           {1<<3 | 1<<28 | 1<<29 | 1<<32 | 1<<40, true},
		"only VERSION_1":                {version1, true},
		"N37 type bit not offered":      {version1 | 1<<4, false},
		"N37 transport bit not offered": {version1 | 1<<34, false},
		"N37 last bit":                  {version1 | 1<<63, false},
		"N38 none":                      {0, false},
		"N38 without VERSION_1":         {1<<3 | 1<<28, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, dev := idle(t)
			d.Store(virtiotest.RegStatus, ack|driver)
			d.Accept(c.accept)
			d.Store(virtiotest.RegStatus, ack|driver|featuresOK)
			assert.Equal(t, c.good, d.Load(virtiotest.RegStatus)&featuresOK != 0)
			d.Store(virtiotest.RegStatus, virtiotest.Running)
			if !c.good {
				assert.Zero(t, dev.Activated)
				d.Accept(version1) // the driver may think again
				d.Store(virtiotest.RegStatus, ack|driver|featuresOK)
				d.Store(virtiotest.RegStatus, virtiotest.Running)
				assert.EqualValues(t, version1, dev.Active.Features)
				return
			}
			assert.Equal(t, c.accept, dev.Active.Features)
			before := snapshot(t, d)
			d.Accept(1 << 3)
			d.Store(virtiotest.RegDriverFeatSel, 0)
			after := snapshot(t, d)
			d.Store(virtiotest.RegDriverFeatSel, 1)
			assert.NotEqual(t, before, after, "the selector is not frozen")
			assert.Equal(t, before, snapshot(t, d), "but the features are")
		})
	}
	t.Run("selector out of range", func(t *testing.T) {
		t.Parallel()
		d, dev := idle(t)
		d.Store(virtiotest.RegStatus, ack|driver)
		d.Accept(version1)
		for _, sel := range []uint32{2, 3, 0xffffffff} {
			d.Store(virtiotest.RegDriverFeatSel, sel)
			d.Store(virtiotest.RegDriverFeatures, 0xffffffff)
		}
		d.Store(virtiotest.RegStatus, ack|driver|featuresOK)
		d.Store(virtiotest.RegStatus, virtiotest.Running)
		assert.EqualValues(t, version1, dev.Active.Features)
	})
}

// TestResetEndsRequests (N39) has a request in flight when the driver resets the device.
func TestResetEndsRequests(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	var head uint16
	var old virtio.Activation
	dev.OnReset = func() { // the last chance of a request to end
		old = dev.Active
		assert.NoError(t, old.Queues[0].Push(head, 0))
		assert.NoError(t, old.Queues[0].Notify())
	}
	d.Restart()
	d.Queues[0].Add(in(data, 1))
	head = pop(t, dev.Active.Queues[0]).Head
	d.Store(virtiotest.RegStatus, 0)
	assert.Equal(t, 1, dev.Resets)
	assert.Zero(t, d.Load(virtiotest.RegStatus))
	assert.Zero(t, d.Load(virtiotest.RegInterruptStatus), "the driver of this request is gone")
	assert.Zero(t, d.Load(virtiotest.RegQueueReady))
	d.Store(virtiotest.RegStatus, 0)
	assert.Equal(t, 1, dev.Resets, "it has no driver to forget")

	// What the past still has to say concerns nobody.
	dev.OnReset = nil
	d.Restart()
	old.Fail(errors.New("late"))
	assert.False(t, d.NeedsReset())
	assert.NoError(t, d.MMIO.Failure())
	dev.Active.Fail(errors.New("in time"))
	assert.True(t, d.NeedsReset())
}

// TestResetOften (N40) leaves no descriptor, goroutine or memory behind.
func TestResetOften(t *testing.T) {
	d := virtiotest.Start(t, serve(false, size), virtiotest.Config{})
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(list)
	}
	q := d.Queues[0]
	cycle := func() {
		d.Negotiate()
		q.Program()
		d.Store(virtiotest.RegStatus, virtiotest.Running)
	}
	for range 100 {
		cycle()
	}
	var before, after runtime.MemStats
	fds, routines := descriptors(), runtime.NumGoroutine()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 100000 {
		cycle()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.LessOrEqual(t, descriptors(), fds)
	assert.LessOrEqual(t, runtime.NumGoroutine(), routines)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
	d.Restart()
	d.Queues[0].Do(in(data, 1))
}

func TestNotify(t *testing.T) {
	t.Parallel()
	d, _ := idle(t)
	d.Restart()
	for _, queue := range []uint32{2, 3, 0x80000000, 0xffffffff} {
		d.Store(virtiotest.RegQueueNotify, queue) // N41
	}
	assert.False(t, d.NeedsReset())
	for i, k := range d.MMIO.Kicks() {
		d.Store(virtiotest.RegQueueNotify, uint32(i))
		d.Store(virtiotest.RegQueueNotify, uint32(i))
		require.NoError(t, k.Block(), "notifications of queue %d reach it", i)
	}
}

func TestConfigurationSpace(t *testing.T) {
	t.Parallel()
	t.Run("N42 read", func(t *testing.T) {
		t.Parallel()
		d, _ := idle(t)
		for off := range uint64(12) {
			for n := range 12 {
				want := make([]byte, n)
				copy(want, "abcdefgh"[min(off, 8):])
				assert.Equal(t, want, d.Config(off, n), "%d bytes at %d", n, off)
			}
		}
		for _, off := range []uint64{0xe00, 1<<32 - 1 - 0x100, 1<<32 - 0x100, 1 << 32, 1 << 63, ^uint64(0) - 0x100} {
			assert.Equal(t, make([]byte, 8), d.Config(off, 8), "%#x", off)
		}
	})
	t.Run("N42 write", func(t *testing.T) {
		t.Parallel()
		d, dev := idle(t)
		for _, off := range []uint64{8, 9, 0xe00, 1<<32 - 1, 1 << 32, ^uint64(0) - 0x200} {
			d.MMIO.Write(virtiotest.RegConfig+off, []byte("XXXXXXXX"))
		}
		assert.Equal(t, "abcdefgh", string(dev.Space))
		d.MMIO.Write(virtiotest.RegConfig+6, []byte("1234"))
		assert.Equal(t, "abcdef12", string(dev.Space))
	})
	t.Run("N42 generation", func(t *testing.T) {
		t.Parallel()
		d, dev := idle(t)
		d.Restart()
		g := d.Load(virtiotest.RegConfigGeneration)
		d.Config(0, 8)
		assert.Equal(t, g, d.Load(virtiotest.RegConfigGeneration), "nothing changed")
		dev.Active.ConfigChanged()
		assert.NotEqual(t, g, d.Load(virtiotest.RegConfigGeneration))
		assert.NotZero(t, d.IRQ.Count())
		assert.EqualValues(t, configInterrupt, d.Ack())
	})
}

func TestActivateOnce(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	d.Restart()
	for range 3 { // N43
		d.Store(virtiotest.RegStatus, virtiotest.Running)
	}
	assert.Equal(t, 1, dev.Activated)
}

// TestActivationFails (N44) ends in NEEDS_RESET and an interrupt, and a reset helps.
func TestActivationFails(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	refused := errors.New("no")
	dev.OnActivate = func(virtio.Activation) error { return refused }
	d.Negotiate()
	d.Store(virtiotest.RegStatus, virtiotest.Running)
	assert.EqualValues(t, virtiotest.Running|virtio.StatusNeedsReset, d.Load(virtiotest.RegStatus))
	assert.ErrorIs(t, d.MMIO.Failure(), refused)
	assert.NotZero(t, d.IRQ.Count())
	assert.EqualValues(t, configInterrupt, d.Ack())
	dev.OnActivate = nil
	d.Restart()
	assert.NoError(t, d.MMIO.Failure())
}

// TestFirstFailureCounts: a broken device changes once.
func TestFirstFailureCounts(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	d.Restart()
	first := errors.New("first")
	before := d.Load(virtiotest.RegConfigGeneration)
	dev.Active.Fail(first)
	dev.Active.Fail(errors.New("second"))
	assert.ErrorIs(t, d.MMIO.Failure(), first)
	assert.Equal(t, before+1, d.Load(virtiotest.RegConfigGeneration))
}

// TestChangeComesAgain: a driver that looks into its queues instead of the interrupt status
// (kernel/patches/0010-mmio-edges.patch) hears of a change in the end.
func TestChangeComesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, dev := idle(t)
		d.Restart()
		beyond := func(d *virtiotest.Driver, n uint64) {
			t.Helper()
			time.Sleep(time.Minute)
			assert.Greater(t, d.IRQ.Count(), n+50, "about once a second")
		}
		silent := func(d *virtiotest.Driver) {
			t.Helper()
			n := d.IRQ.Count()
			time.Sleep(time.Hour)
			assert.Equal(t, n, d.IRQ.Count())
		}
		dev.Active.ConfigChanged()
		beyond(d, 0)
		d.Store(virtiotest.RegInterruptACK, usedInterrupt)
		beyond(d, d.IRQ.Count())

		copied, _ := idle(t)
		d.MMIO.Pause()
		require.NoError(t, copied.MMIO.RestoreState(snapshot(t, d)))
		beyond(copied, 0)

		assert.EqualValues(t, configInterrupt, d.Ack())
		silent(d)
		dev.Active.ConfigChanged()
		beyond(d, d.IRQ.Count())
		d.Store(virtiotest.RegStatus, 0)
		silent(d)
		require.NoError(t, copied.MMIO.Close())
		silent(copied)
	})
}

func TestInterruptAcknowledge(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	d.Restart()
	q := dev.Active.Queues[0]
	d.Queues[0].Add(in(data, 1))
	require.NoError(t, q.Push(pop(t, q).Head, 0))
	require.NoError(t, q.Notify())
	dev.Active.ConfigChanged()
	assert.EqualValues(t, usedInterrupt|configInterrupt, d.Load(virtiotest.RegInterruptStatus))
	d.Store(virtiotest.RegInterruptACK, 0xfffffffc) // N45
	d.Store(virtiotest.RegInterruptACK, 0)
	assert.EqualValues(t, usedInterrupt|configInterrupt, d.Load(virtiotest.RegInterruptStatus))
	d.Store(virtiotest.RegInterruptACK, usedInterrupt|0xf0)
	assert.EqualValues(t, configInterrupt, d.Load(virtiotest.RegInterruptStatus))
	d.Store(virtiotest.RegInterruptStatus, 0)
	assert.EqualValues(t, configInterrupt, d.Load(virtiotest.RegInterruptStatus), "it is read-only")
	d.Store(virtiotest.RegInterruptACK, 0xffffffff)
	assert.Zero(t, d.Load(virtiotest.RegInterruptStatus))
}

func TestPauseReachesAnActiveDeviceOnly(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	d.MMIO.Pause()
	d.MMIO.Resume()
	assert.Zero(t, dev.Pauses+dev.Resumes)
	d.Restart()
	d.MMIO.Pause()
	d.MMIO.Resume()
	assert.Equal(t, []int{1, 1}, []int{dev.Pauses, dev.Resumes})
}

func TestCloseOfTheTransport(t *testing.T) {
	t.Parallel()
	d, dev := idle(t)
	d.Restart()
	require.NoError(t, d.MMIO.Close())
	require.NoError(t, d.MMIO.Close())
	assert.Equal(t, 1, dev.Resets)
	assert.Equal(t, 1, dev.Closed)
	for reg := uint64(0); reg < registers+16; reg += 4 { // a processor that is still on its way
		d.Store(reg, virtiotest.Running)
		d.Load(reg)
	}
	assert.Equal(t, 1, dev.Activated)
	for _, k := range d.MMIO.Kicks() {
		assert.ErrorIs(t, k.Block(), os.ErrClosed)
	}
}

func TestDevicesThatCannotBe(t *testing.T) {
	t.Parallel()
	many := make([]uint16, 256)
	for i := range many {
		many[i] = 1
	}
	for name, sizes := range map[string][]uint16{"size 0": {16, 0}, "size 3": {3}, "size 65535": {65535}, "256 queues": many} {
		_, err := virtio.NewMMIO(&virtiotest.Device{Sizes: sizes}, nil, nil)
		assert.Error(t, err, name)
	}
	most := virtiotest.Start(t, &virtiotest.Device{Type: 1, Sizes: []uint16{virtio.MaxQueueSize}}, virtiotest.Config{})
	assert.False(t, most.NeedsReset())
}

func TestRegistersDoNotAllocate(t *testing.T) {
	d := virtiotest.Start(t, &virtiotest.Device{Sizes: []uint16{size}}, virtiotest.Config{})
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		d.Store(virtiotest.RegQueueNotify, 0)
		d.Ack()
		d.Load(virtiotest.RegStatus)
	}))
}
