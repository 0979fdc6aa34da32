package vmm

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/virtio/console"
)

func read(m *Machine, addr uint64, n int) []byte {
	e := &hv.Exit{Reason: hv.ExitMMIO, Addr: addr, Data: make([]byte, n)}
	m.bus.access(e)
	return e.Data
}

func TestBus(t *testing.T) {
	c := config(spins, 1)
	c.Vsock = &VsockConfig{GuestCID: 3}
	m := build(t, c)
	last := uint64(len(m.bus.slots) - 1)
	for i := range m.bus.slots {
		assert.Equal(t, "virt", string(read(m, mmioBase+uint64(i)*mmioWindow, 4)), "device %d", i)
	}
	assert.EqualValues(t, 19, binary.LittleEndian.Uint32(read(m, mmioBase+last*mmioWindow+8, 4)), "the socket device is the last one")
	assert.Equal(t, []byte{0xFF, 0xFF, 0xFF, 0xFF}, read(m, mmioBase+(last+1)*mmioWindow, 4), "behind the last device")
	assert.Equal(t, []byte{0xFF}, read(m, mmioBase-1, 1), "before the first device")
	assert.Equal(t, []byte{0xFF, 0xFF}, read(m, mmioBase+mmioWindow-1, 2), "across two windows")
	for _, addr := range []uint64{0, mmioBase - 4, mmioBase + (last+1)*mmioWindow, ^uint64(0)} {
		m.bus.access(&hv.Exit{Reason: hv.ExitMMIO, Write: true, Addr: addr, Data: []byte{1, 2, 3, 4}}) // ignored
	}
	assert.Contains(t, m.bus.words(), " virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6")
}

func TestBusSkipsTheClocksLineAndRunsOut(t *testing.T) {
	m := build(t, config(spins, 1))
	fill := func() error {
		dev, err := console.New(console.Config{Ports: []console.Port{{Console: true, Output: io.Discard}}})
		require.NoError(t, err)
		return m.bus.attach("console", m.vm, m.mem, dev)
	}
	for range lastGSI - firstGSI - len(m.bus.slots) {
		require.NoError(t, fill())
	}
	for _, s := range m.bus.slots {
		assert.NotEqualValues(t, rtcGSI, s.gsi)
	}
	assert.ErrorIs(t, fill(), ErrTooManyDevices)
}

func TestBusAccessDoesNotAllocate(t *testing.T) {
	m := build(t, config(spins, 1))
	e := &hv.Exit{Reason: hv.ExitMMIO, Addr: mmioBase + 0x70, Data: make([]byte, 4)}
	assert.Zero(t, testing.AllocsPerRun(100, func() { m.bus.access(e) }))
}
