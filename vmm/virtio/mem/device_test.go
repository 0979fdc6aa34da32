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

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Size: BlockSize}, {Base: 1 << 32, Size: MaxSize}, {Base: regionBase, Size: regionSize}} {
		assert.NoError(t, c.Validate())
	}
	for name, c := range map[string]Config{
		"empty": {Base: regionBase}, "no blocks": {Size: BlockSize + 1}, "base": {Base: 4096, Size: BlockSize}, "large": {Size: MaxSize + BlockSize},
		"wraps around": {Base: math.MaxUint64 - BlockSize + 1, Size: 2 * BlockSize},
	} {
		assert.ErrorIs(t, c.Validate(), ErrConfig, name)
		_, err := New(c)
		assert.ErrorIs(t, err, ErrConfig, name)
	}
}

func TestIdentityAndConfiguration(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 3)
	assert.EqualValues(t, 24, g.Load(virtiotest.RegDeviceID))
	assert.Len(t, g.Queues, 1)
	assert.EqualValues(t, 1<<1, g.Features&(1<<24-1))
	require.Equal(t, ack, g.ask(requestPlug, block(1), 2))
	for off, want := range map[uint64]uint64{0: BlockSize, 8: 0, 16: regionBase, 24: regionSize, 32: regionSize, 40: 2 * BlockSize, 48: 3 * BlockSize, 56: 0, 100: 0} {
		assert.Equal(t, want, g.field(off), "field at %d", off)
	}
	g.Store(virtiotest.RegConfig+48, 0)
	assert.EqualValues(t, 3*BlockSize, g.field(48), "not the driver's to write")
}

func TestTarget(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 0)
	g.Ack()
	generation := g.Load(virtiotest.RegConfigGeneration)
	require.NoError(t, g.dev.SetTarget(5*BlockSize+BlockSize/2))
	g.IRQ.Wait(t)
	assert.EqualValues(t, 2, g.Ack(), "the configuration changed")
	assert.NotEqual(t, generation, g.Load(virtiotest.RegConfigGeneration))
	assert.EqualValues(t, 5*BlockSize, g.field(48))
	assert.Equal(t, Sizes{Region: regionSize, Target: 5 * BlockSize}, g.dev.Sizes())
	require.NoError(t, g.dev.SetTarget(5*BlockSize))
	g.IRQ.Wait(t)
	assert.EqualValues(t, 2, g.Ack(), "the guest does not have it yet")
	require.Equal(t, ack, g.ask(requestPlug, block(0), 5))
	g.Ack()
	require.NoError(t, g.dev.SetTarget(5*BlockSize))
	assert.Zero(t, g.Ack(), "there is nothing to do")
	assert.ErrorIs(t, g.dev.SetTarget(regionSize+1), ErrConfig)
	require.NoError(t, g.dev.SetTarget(regionSize))
	assert.EqualValues(t, regionSize, g.field(48))
}

func TestTheDriverIsSeen(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 0)
	assert.True(t, g.dev.Driven())
	g.Store(virtiotest.RegStatus, 0)
	assert.False(t, g.dev.Driven())
	assert.False(t, newDevice(t).Driven())
}

// TestADriverThatPromisesNothing could fill memory that it does not have.
func TestADriverThatPromisesNothing(t *testing.T) {
	t.Parallel()
	dev := newDevice(t)
	careless := layout
	careless.Refuse = featureUnpluggedInaccessible
	d := virtiotest.New(t, dev, careless)
	d.Negotiate()
	d.LayOut()
	d.Queues[0].Program()
	d.Store(virtiotest.RegStatus, virtiotest.Running)
	assert.ErrorIs(t, d.WaitBroken(), virtio.ErrGuest)
	assert.False(t, dev.Driven())
}

func TestADriverWithoutAQueue(t *testing.T) {
	t.Parallel()
	d := virtiotest.New(t, newDevice(t), layout)
	d.Negotiate()
	d.Store(virtiotest.RegStatus, virtiotest.Running)
	assert.ErrorIs(t, d.WaitBroken(), virtio.ErrGuest)
}

// TestAResetKeepsMemory: another driver finds what its predecessor had (§5.15.5).
func TestAResetKeepsMemory(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 4)
	require.Equal(t, ack, g.ask(requestPlug, block(0), 4))
	g.Bytes(block(2), 1)[0] = 7
	g.Restart()
	assert.Equal(t, Sizes{regionSize, 4 * BlockSize, 4 * BlockSize}, g.dev.Sizes())
	assert.EqualValues(t, 7, g.Bytes(block(2), 1)[0])
	assert.Equal(t, [2]uint16{answerACK, statePlugged}, g.ask(requestState, block(0), 4))
	assert.Equal(t, ack, g.ask(requestUnplugAll, 0, 0))
	assert.Zero(t, g.dev.Sizes().Plugged)
}

func TestPauseStopsEverything(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 4)
	g.MMIO.Pause()
	g.Queues[0].Add(g.request(requestPlug, block(0), 1)...)
	g.Queues[0].Notify()
	assert.Never(t, func() bool { return g.dev.Sizes().Plugged != 0 }, 20e6, 1e6)
	g.MMIO.Resume()
	g.Queues[0].Wait()
	assert.EqualValues(t, BlockSize, g.dev.Sizes().Plugged)
}

func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 68)
	require.Equal(t, ack, g.ask(requestPlug, block(1), 2))
	require.Equal(t, ack, g.ask(requestPlug, block(60), 10))
	g.Bytes(block(61), 1)[0] = 7
	g.MMIO.Pause()
	parts := []memory.Range{{Base: block(1), Size: 2 * BlockSize}, {Base: block(60), Size: 10 * BlockSize}}
	assert.Equal(t, parts, g.dev.Plugged())
	s := g.Save()

	dev := newDevice(t)
	c := &guest{virtiotest.Restore(t, dev, layout, s), t, dev}
	assert.Equal(t, parts, dev.Plugged())
	assert.Equal(t, Sizes{regionSize, 68 * BlockSize, 12 * BlockSize}, dev.Sizes())
	assert.EqualValues(t, 7, c.Bytes(block(61), 1)[0])
	assert.Equal(t, bad, c.ask(requestPlug, block(60), 1))
	assert.Equal(t, ack, c.ask(requestUnplug, block(61), 1))
	assert.Zero(t, c.Bytes(block(61), 1)[0])
	assert.Equal(t, ack, c.ask(requestPlug, block(3), 57))
	assert.Equal(t, nack, c.ask(requestPlug, block(61), 1))
}

func TestSavedStateIsChecked(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 70)
	require.Equal(t, ack, g.ask(requestPlug, block(0), 70))
	state, err := g.dev.SaveState()
	require.NoError(t, err)
	require.NoError(t, newDevice(t).RestoreState(state))
	again := newDevice(t)
	require.NoError(t, again.RestoreState(state))
	twice, err := again.SaveState()
	require.NoError(t, err)
	assert.Equal(t, state, twice)
	other := func(i int, v byte) []byte {
		b := append([]byte(nil), state...)
		b[i] = v
		return b
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": state[:len(state)-1], "long": append(append([]byte(nil), state...), 0),
		"version": other(0, 2), "base": other(7, 1), "size": other(15, 1), "target not of blocks": other(20, 1), "target too large": other(27, 1),
		"blocks beyond": other(len(state)-1, 1), "the block after the last": other(len(state)-8, 0x7f),
	} {
		dev := newDevice(t)
		assert.ErrorIs(t, dev.RestoreState(b), virtio.ErrState, name)
		assert.Equal(t, Sizes{Region: regionSize}, dev.Sizes(), name)
	}
}

func TestCloseIsForGood(t *testing.T) {
	t.Parallel()
	g := newGuest(t, 1)
	require.NoError(t, g.dev.Close())
	require.NoError(t, g.dev.Close())
	require.NoError(t, g.dev.SetTarget(0))
	assert.Error(t, g.dev.Activate(virtio.Activation{Features: featureUnpluggedInaccessible, Queues: []*virtio.Queue{nil}}))
	assert.False(t, g.dev.Driven())
	g.dev.Pause()
	g.dev.Resume()
	g.dev.Reset()
}
