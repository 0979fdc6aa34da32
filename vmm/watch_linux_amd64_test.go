package vmm

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
)

// TestHaltForEver: a machine ends when no processor will ever go on, started or not.
func TestHaltForEver(t *testing.T) {
	for name, c := range map[string]struct {
		code []byte
		want Kind
	}{"halted": {halts, Halt}, "halted by a panic": {panicHLT, Panic}} {
		for _, vcpus := range []int{1, 4} {
			t.Run(name, func(t *testing.T) {
				m := build(t, config(c.code, vcpus))
				m.interval = 10 * time.Millisecond
				require.NoError(t, m.Start())
				assert.Equal(t, Result{Kind: c.want, VCPU: -1}, wait(t, m))
			})
		}
	}
}

// TestLiveGuestsAreLeftAlone, however often one looks, and also while they are paused.
func TestLiveGuestsAreLeftAlone(t *testing.T) {
	for name, code := range map[string][]byte{"idle": idles, "spinning": spins, "exiting": counts} {
		t.Run(name, func(t *testing.T) {
			m := build(t, config(code, 2))
			m.interval = time.Millisecond
			require.NoError(t, m.Start())
			for range 50 {
				m.suspectHalt()
				m.endIfAsleep()
				require.NoError(t, m.Pause())
				m.endIfAsleep()
				assert.EqualValues(t, wantPark, m.want.Load(), "a paused machine stays paused")
				require.NoError(t, m.Resume())
			}
			m.Stop()
			assert.Equal(t, Stopped, wait(t, m).Kind)
		})
	}
}

// TestPausedMachineIsNotLookedAt: it ends after it was resumed.
func TestPausedMachineIsNotLookedAt(t *testing.T) {
	m := build(t, config(halts, 1))
	m.interval = time.Hour
	require.NoError(t, m.Start())
	require.NoError(t, m.Pause())
	m.endIfAsleep()
	_, err := m.SaveState()
	require.NoError(t, err)
	require.NoError(t, m.Resume())
	require.Eventually(t, func() bool { m.endIfAsleep(); return m.want.Load() == wantEnd }, patience, time.Millisecond)
	assert.Equal(t, Halt, wait(t, m).Kind)
}

// TestResetOfADeviceIsAReasonToLook, but only of one that the guest used.
func TestResetOfADeviceIsAReasonToLook(t *testing.T) {
	m := build(t, config(halts, 2))
	m.interval = 24 * time.Hour // by itself it would look too late
	set := func(off uint64, v uint32) {
		m.bus.access(&hv.Exit{Reason: hv.ExitMMIO, Write: true, Addr: mmioBase + mmioWindow + off, Data: binary.LittleEndian.AppendUint32(nil, v)})
	}
	status := func(v uint32) { set(0x70, v) }
	status(0)
	assert.Empty(t, m.suspect, "nobody has used it")
	status(1)
	status(3)
	set(0x24, 1)
	set(0x20, 1) // VIRTIO_F_VERSION_1
	status(11)
	status(15)
	assert.Empty(t, m.suspect)
	require.NoError(t, m.Start())
	status(0)
	assert.Equal(t, Result{Kind: Halt, VCPU: -1}, wait(t, m))
}
