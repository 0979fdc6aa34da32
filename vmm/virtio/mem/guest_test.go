package mem

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	requestArea = virtiotest.DataBase
	answerArea  = requestArea + 0x1000

	regionBase = 128 << 20
	regionSize = regionBlocks * BlockSize
	// regionBlocks is more than a word of the set, and no whole number of words.
	regionBlocks = 70
)

var layout = virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: virtiotest.RAMSize}, {Base: regionBase, Size: regionSize}}}

// guest is a driver of the memory device.
type guest struct {
	*virtiotest.Driver
	t   testing.TB
	dev *Device
}

func newDevice(t testing.TB) *Device {
	t.Helper()
	dev, err := New(Config{Base: regionBase, Size: regionSize})
	require.NoError(t, err)
	return dev
}

// newGuest has a target of n blocks.
func newGuest(t testing.TB, n uint64) *guest {
	t.Helper()
	dev := newDevice(t)
	require.NoError(t, dev.SetTarget(n*BlockSize))
	return &guest{virtiotest.Start(t, dev, layout), t, dev}
}

// block is the address of block n.
func block(n uint64) uint64 { return regionBase + n*BlockSize }

// request writes a request and returns the buffers of its chain.
func (g *guest) request(kind uint16, addr uint64, n uint16) []virtiotest.Buffer {
	b := make([]byte, requestSize)
	binary.LittleEndian.PutUint16(b, kind)
	binary.LittleEndian.PutUint64(b[8:], addr)
	binary.LittleEndian.PutUint16(b[16:], n)
	g.Write(requestArea, b)
	return []virtiotest.Buffer{{Addr: requestArea, Len: requestSize}, {Addr: answerArea, Len: answerSize, Write: true}}
}

// ask makes a request and returns the kind and the state of its answer.
func (g *guest) ask(kind uint16, addr uint64, n uint16) [2]uint16 {
	g.t.Helper()
	u := g.Queues[0].Do(g.request(kind, addr, n)...)
	require.EqualValues(g.t, answerSize, u.Len)
	b := g.Bytes(answerArea, answerSize)
	return [2]uint16{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[8:])}
}

// field reads a 64-bit field of the configuration space.
func (g *guest) field(off uint64) uint64 { return binary.LittleEndian.Uint64(g.Config(off, 8)) }

var (
	ack  = [2]uint16{answerACK}
	nack = [2]uint16{answerNACK}
	bad  = [2]uint16{answerError}
)
