package blk

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// Where the guest keeps its requests: headers and status bytes by slot, and data.
const (
	headerArea = virtiotest.DataBase
	statusArea = headerArea + 0x10000
	dataArea   = statusArea + 0x10000
	noStatus   = 0xee // what no device writes
)

// guest is a driver of one disk.
type guest struct {
	*virtiotest.Driver
	t    testing.TB
	dev  *Device
	q    *virtiotest.Queue
	slot int // the next free one
}

func newGuest(t testing.TB, b Backend, cfg virtiotest.Config) *guest {
	t.Helper()
	return newGuestOf(t, Config{Backend: b, Serial: "disk-0123"}, cfg)
}

func newGuestOf(t testing.TB, disk Config, cfg virtiotest.Config) *guest {
	t.Helper()
	dev, err := New(disk)
	require.NoError(t, err)
	d := virtiotest.Start(t, dev, cfg)
	return &guest{Driver: d, t: t, dev: dev, q: d.Queues[0]}
}

func (g *guest) restart() {
	g.Restart()
	g.q = g.Queues[0]
}

// header writes a header into a slot.
func (g *guest) header(slot int, k kind, sector uint64) virtiotest.Buffer {
	addr := uint64(headerArea + slot*headerSize)
	b := g.Bytes(addr, headerSize)
	binary.LittleEndian.PutUint32(b, uint32(k))
	binary.LittleEndian.PutUint32(b[4:], 0)
	binary.LittleEndian.PutUint64(b[8:], sector)
	return virtiotest.Buffer{Addr: addr, Len: headerSize}
}

// status is the status buffer of a slot.
func (g *guest) status(slot int) virtiotest.Buffer {
	addr := uint64(statusArea + slot)
	g.Bytes(addr, 1)[0] = noStatus
	return virtiotest.Buffer{Addr: addr, Len: 1, Write: true}
}

// submit makes a request available and tells the device; it returns the slot.
func (g *guest) submit(k kind, sector uint64, data ...virtiotest.Buffer) int {
	slot := g.add(k, sector, data...)
	g.q.Kick()
	return slot
}

// add is submit without telling the device.
func (g *guest) add(k kind, sector uint64, data ...virtiotest.Buffer) int {
	slot := g.slot
	g.slot = (g.slot + 1) % 1024
	bufs := append([]virtiotest.Buffer{g.header(slot, k, sector)}, data...)
	g.q.Add(append(bufs, g.status(slot))...)
	return slot
}

func (g *guest) result(slot int) status { return status(g.Bytes(uint64(statusArea+slot), 1)[0]) }

// do carries a request out and returns its status and the length that the device says.
func (g *guest) do(k kind, sector uint64, data ...virtiotest.Buffer) (status, uint32) {
	g.t.Helper()
	slot := g.submit(k, sector, data...)
	u := g.q.Wait()
	return g.result(slot), u.Len
}

// ok is do of a request that must succeed.
func (g *guest) ok(k kind, sector uint64, data ...virtiotest.Buffer) uint32 {
	g.t.Helper()
	s, n := g.do(k, sector, data...)
	require.Equal(g.t, statusOK, s)
	return n
}

// in and out are buffers of data at off of the data area.
func in(off uint64, n uint32) virtiotest.Buffer {
	return virtiotest.Buffer{Addr: dataArea + off, Len: n, Write: true}
}

func out(off uint64, n uint32) virtiotest.Buffer {
	return virtiotest.Buffer{Addr: dataArea + off, Len: n}
}

func (g *guest) data(off uint64, n int) []byte { return g.Bytes(dataArea+off, n) }

// ranges writes ranges to discard or zero, and returns their buffer.
func (g *guest) ranges(rs ...[3]uint64) virtiotest.Buffer {
	var b []byte
	for _, r := range rs {
		b = binary.LittleEndian.AppendUint64(b, r[0])
		b = binary.LittleEndian.AppendUint32(b, uint32(r[1]))
		b = binary.LittleEndian.AppendUint32(b, uint32(r[2]))
	}
	g.Write(dataArea, b)
	return out(0, uint32(len(b)))
}

// write and read move whole data through one buffer.
func (g *guest) write(sector uint64, p []byte) {
	g.t.Helper()
	copy(g.data(0, len(p)), p)
	g.ok(kindWrite, sector, out(0, uint32(len(p))))
}

func (g *guest) read(sector uint64, n int) []byte {
	g.t.Helper()
	clear(g.data(0, n))
	require.EqualValues(g.t, n+1, g.ok(kindRead, sector, in(0, uint32(n))))
	return append([]byte(nil), g.data(0, n)...)
}
