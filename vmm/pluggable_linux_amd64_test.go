package vmm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/mem"
)

// bootWords are what the kernel of m is told.
func bootWords(t *testing.T, m *Machine) string {
	t.Helper()
	b := make([]byte, 2048)
	require.NoError(t, m.Memory().ReadAt(b, 0x20000))
	words, _, _ := strings.Cut(string(b), "\x00")
	return words
}

// TestPluggableMemory is behind RAM, of whole blocks, and is there if it is asked for.
func TestPluggableMemory(t *testing.T) {
	for most, region := range map[int]uint64{0: 0, 64: 0, 65: 0, 66: 2, 193: 128, 1024: 960} {
		c := config(spins, 1)
		c.MaxMemoryMiB = most
		m := build(t, c)
		assert.EqualValues(t, 64<<20, m.Memory().Size())
		words := bootWords(t, m)
		assert.Equal(t, region != 0, strings.Contains(words, " memhp_default_state=online_movable"), words)
		assert.Equal(t, []memory.Range{{Base: 0, Size: 64 << 20}}, m.Contents())
		if region == 0 {
			assert.Nil(t, m.PluggableMemory())
			assert.NotContains(t, words, "memhp")
			continue
		}
		assert.Equal(t, mem.Sizes{Region: region << 20}, m.PluggableMemory().Sizes())
		last := m.Memory().Regions()[1]
		assert.Equal(t, []uint64{1 << 32, region << 20}, []uint64{last.Base, last.Size})
		assert.True(t, last.Pluggable)
	}
}

func TestPluggableMemoryThatCannotBe(t *testing.T) {
	for _, most := range []int{-1, 1, 63, MaxMemoryMiB + 1} {
		c := config(spins, 1)
		c.MaxMemoryMiB = most
		assert.ErrorIs(t, c.Validate(), ErrConfig, "%d", most)
	}
	c := Config{MemoryMiB: 4096, MaxMemoryMiB: 64 << 10}
	narrow := []hv.CPUIDEntry{{Function: 0x80000008, EAX: 36}}
	err := (&Machine{}).mapMemory(4096, c.pluggable(), narrow)
	assert.ErrorIs(t, err, ErrMemory)
	assert.ErrorContains(t, err, "room for 61440 MiB to come does not fit into the addresses of this host's processor: choose 1024 less")
}

// TestPluggedMemoryIsSaved with the machine: the copy knows which parts have content.
func TestPluggedMemoryIsSaved(t *testing.T) {
	c := config(counts, 1)
	c.MaxMemoryMiB = 128
	m := build(t, c)
	dev, err := m.PluggableMemory().SaveState()
	require.NoError(t, err)
	dev[28] = 0b1101 // blocks
	require.NoError(t, m.PluggableMemory().RestoreState(dev))
	parts := []memory.Range{{Base: 0, Size: 64 << 20}, {Base: 1 << 32, Size: 2 << 20}, {Base: 1<<32 + 4<<20, Size: 4 << 20}}
	assert.Equal(t, parts, m.Contents())
	require.NoError(t, m.PluggableMemory().SetTarget(32<<20))
	require.NoError(t, m.Start())
	require.NoError(t, m.Pause())
	state, err := m.SaveState()
	require.NoError(t, err)
	fork := build(t, c)
	require.NoError(t, fork.RestoreState(state))
	assert.Equal(t, parts, fork.Contents())
	assert.Equal(t, mem.Sizes{Region: 64 << 20, Target: 32 << 20, Plugged: 6 << 20}, fork.PluggableMemory().Sizes())

	c.MaxMemoryMiB = 256
	assert.ErrorIs(t, build(t, c).RestoreState(state), ErrSavedState, "room of another size")
	c.MaxMemoryMiB = 0
	assert.ErrorIs(t, build(t, c).RestoreState(state), ErrSavedState, "no room")
}
