//go:build linux

package passthrough

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio/fs"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// vm is a guest that reaches a share through the device, its queues and its memory.
type vm struct {
	*virtiotest.Driver
	t      testing.TB
	unique uint64
}

const (
	vmRequest = virtiotest.DataBase
	vmAnswer  = vmRequest + 0x10000
	vmData    = vmAnswer + 0x10000 // of requests, or of answers
	vmPage    = 4096
)

func newVM(t testing.TB, s *Server) *vm {
	t.Helper()
	dev, err := fs.New(fs.Config{Tag: "share", Backend: s})
	require.NoError(t, err)
	d := virtiotest.Start(t, dev, virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 32 << 20}}, Indirect: true})
	v := &vm{Driver: d, t: t}
	_, errno := v.call(opInit, 0, words(7, 41, 131072, allFlags), 0, 0)
	require.Zero(t, errno)
	return v
}

// chain lays a request out as Linux does: the header and the arguments, pages of data,
// the header of the answer, its arguments, or pages of data.
func (v *vm) chain(op opcode, node uint64, args []byte, in, out int) []virtiotest.Buffer {
	v.unique++
	b := v.Bytes(vmRequest, inHeaderSize)
	le.PutUint32(b, uint32(inHeaderSize+len(args)+in))
	le.PutUint32(b[4:], uint32(op))
	le.PutUint64(b[8:], v.unique)
	le.PutUint64(b[16:], node)
	bufs := []virtiotest.Buffer{{Addr: vmRequest, Len: inHeaderSize}}
	if len(args) > 0 {
		v.Write(vmRequest+inHeaderSize, args)
		bufs = append(bufs, virtiotest.Buffer{Addr: vmRequest + inHeaderSize, Len: uint32(len(args))})
	}
	for off := 0; off < in; off += vmPage {
		bufs = append(bufs, virtiotest.Buffer{Addr: vmData + uint64(off), Len: uint32(min(vmPage, in-off))})
	}
	bufs = append(bufs, virtiotest.Buffer{Addr: vmAnswer, Len: outHeaderSize, Write: true})
	if out == 0 {
		return append(bufs, virtiotest.Buffer{Addr: vmAnswer + outHeaderSize, Len: 512, Write: true})
	}
	for off := 0; off < out; off += vmPage {
		bufs = append(bufs, virtiotest.Buffer{Addr: vmData + uint64(off), Len: uint32(min(vmPage, out-off)), Write: true})
	}
	return bufs
}

// call carries a request out, with in bytes of data behind its arguments, or room for out
// bytes of data behind the header of its answer.
func (v *vm) call(op opcode, node uint64, args []byte, in, out int) ([]byte, unix.Errno) {
	v.t.Helper()
	u := v.do(v.Queues[1], v.chain(op, node, args, in, out)...)
	h := v.Bytes(vmAnswer, outHeaderSize)
	if u.Len != le.Uint32(h) || le.Uint64(h[8:]) != v.unique {
		require.Fail(v.t, "this is not the answer", "%d bytes, header %x", u.Len, h)
	}
	errno := unix.Errno(-int32(le.Uint32(h[4:])))
	if out > 0 {
		return v.Bytes(vmData, int(u.Len)-outHeaderSize), errno
	}
	return v.Bytes(vmAnswer+outHeaderSize, int(u.Len)-outHeaderSize), errno
}

// do carries out one chain and sleeps until the interrupt.
func (v *vm) do(q *virtiotest.Queue, bufs ...virtiotest.Buffer) virtiotest.Used {
	q.Add(bufs...)
	q.Kick()
	for {
		if u, ok := q.Take(); ok {
			return u
		}
		q.Sleep()
	}
}

func (v *vm) create(name string) entry {
	v.t.Helper()
	b, errno := v.call(opCreate, rootID, append(words(unix.O_RDWR, unix.S_IFREG|0o644, 0, 0), text(name)...), 0, 0)
	require.Zero(v.t, errno)
	return parseEntry(b)
}

func (v *vm) write(e entry, off uint64, n int) {
	b, errno := v.call(opWrite, e.node, append(longs(e.fh, off), append(words(uint32(n), 0), longs(0, 0)...)...), n, 0)
	if errno != 0 || le.Uint32(b) != uint32(n) {
		require.Zero(v.t, errno)
		require.EqualValues(v.t, n, le.Uint32(b))
	}
}

func (v *vm) read(e entry, off uint64, n int) []byte {
	b, errno := v.call(opRead, e.node, append(longs(e.fh, off), append(words(uint32(n), 0), longs(0, 0)...)...), 0, n)
	if errno != 0 {
		require.Zero(v.t, errno)
	}
	return b
}

// TestThroughTheDevice moves the largest requests through the device into a file, and
// back, and goes on after a pause, in a copy of the machine, and after a reset.
func TestThroughTheDevice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := func() *Server {
		s, err := New(Config{Root: dir})
		require.NoError(t, err)
		return s
	}
	v := newVM(t, server())
	e := v.create("f")
	content := make([]byte, maxIO)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	v.Write(vmData, content)
	v.write(e, 3, maxIO)
	clear(v.Bytes(vmData, maxIO))
	assert.True(t, bytes.Equal(content[5:], v.read(e, 8, maxIO)), "a read that ends with the file")
	v.MMIO.Pause()
	state := v.Save()
	dev, err := fs.New(fs.Config{Tag: "share", Backend: server()})
	require.NoError(t, err)
	twin := &vm{Driver: virtiotest.Restore(t, dev, virtiotest.Config{RAM: []memory.Range{{Base: 0, Size: 32 << 20}}, Indirect: true}, state), t: t, unique: v.unique}
	v.MMIO.Resume()
	for _, v := range []*vm{twin, v} {
		clear(v.Bytes(vmData, maxIO))
		assert.True(t, bytes.Equal(content, v.read(e, 3, maxIO)))
	}
	v.Restart()
	_, errno := v.call(opGetattr, rootID, longs(0, 0), 0, 0)
	assert.Equal(t, unix.EIO, errno, "the session went with the driver")
	_, errno = v.call(opInit, 0, words(7, 41, 131072, allFlags), 0, 0)
	require.Zero(t, errno)
	_, errno = v.call(opLookup, rootID, text("f"), 0, 0)
	assert.Zero(t, errno)
	assert.False(t, v.NeedsReset())
}

// TestDeviceAllocatesNothing from a request in the queue to its answer.
func TestDeviceAllocatesNothing(t *testing.T) {
	if raceEnabled {
		return // the race detector allocates
	}
	s, err := New(Config{Root: t.TempDir()})
	require.NoError(t, err)
	v := newVM(t, s)
	e := v.create("f")
	v.write(e, 0, 8192)
	read := v.chain(opRead, e.node, append(longs(e.fh, 0), append(words(8192, 0), longs(0, 0)...)...), 0, 8192)
	assert.LessOrEqual(t, testing.AllocsPerRun(200, func() { v.do(v.Queues[1], read...) }), 0.0)
	assert.EqualValues(t, outHeaderSize+8192, binary.LittleEndian.Uint32(v.Bytes(vmAnswer, 4)))
}
