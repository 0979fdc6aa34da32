package virtio_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	data  = virtiotest.DataBase
	size  = 16 // of the queue of open
	table = data + 0x8000

	noEventIdx = virtio.FeatureEventIdx
)

// open is a running device without goroutines, with one queue of 16 entries; the test
// plays both sides.
func open(t testing.TB, cfg virtiotest.Config) (*virtiotest.Driver, *virtiotest.Queue, *virtio.Queue) {
	t.Helper()
	dev := &virtiotest.Device{Type: 42, Sizes: []uint16{size}}
	d := virtiotest.Start(t, dev, cfg)
	return d, d.Queues[0], dev.Active.Queues[0]
}

// in and out are buffers of n bytes that the device reads and writes.
func in(addr uint64, n uint32) virtiotest.Buffer { return virtiotest.Buffer{Addr: addr, Len: n} }
func out(addr uint64, n uint32) virtiotest.Buffer {
	return virtiotest.Buffer{Addr: addr, Len: n, Write: true}
}

// pop takes a chain that must be there.
func pop(t testing.TB, q *virtio.Queue) *virtio.Chain {
	t.Helper()
	var c virtio.Chain
	ok, err := q.Pop(&c)
	require.NoError(t, err)
	require.True(t, ok)
	return &c
}
