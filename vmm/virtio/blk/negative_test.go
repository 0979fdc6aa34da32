package blk

import (
	"encoding/binary"
	"errors"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// TestRequestsThatMakeNoSense get a status, change nothing and leave the device at work
// (N46, N48 to N52).
func TestRequestsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	const sectors = 64
	type request struct {
		kind   kind
		sector uint64
		data   []virtiotest.Buffer
		ranges [][3]uint64
		want   status
	}
	rw := map[string]request{
		"read one past the end":       {kindRead, sectors, []virtiotest.Buffer{in(0, 512)}, nil, statusIOError},
		"read over the end":           {kindRead, sectors - 1, []virtiotest.Buffer{in(0, 1024)}, nil, statusIOError},
		"read far away":               {kindRead, math.MaxUint64, []virtiotest.Buffer{in(0, 512)}, nil, statusIOError},
		"sector times 512 is 0":       {kindRead, 1 << 55, []virtiotest.Buffer{in(0, 512)}, nil, statusIOError},
		"sector times 512 wraps":      {kindWrite, 1<<55 + 1, []virtiotest.Buffer{out(0, 512)}, nil, statusIOError},
		"read of 513 bytes":           {kindRead, 0, []virtiotest.Buffer{in(0, 513)}, nil, statusIOError},
		"read of 511 bytes":           {kindRead, 0, []virtiotest.Buffer{in(0, 511)}, nil, statusIOError},
		"write of 100 bytes":          {kindWrite, 0, []virtiotest.Buffer{out(0, 100)}, nil, statusIOError},
		"read into what is read-only": {kindRead, 0, []virtiotest.Buffer{out(0, 512)}, nil, statusIOError},
		"write of what is write-only": {kindWrite, 0, []virtiotest.Buffer{in(0, 512)}, nil, statusIOError},
		"write with both":             {kindWrite, 0, []virtiotest.Buffer{out(0, 512), in(512, 512)}, nil, statusIOError},
		"flush with data":             {kindFlush, 0, []virtiotest.Buffer{out(0, 512)}, nil, statusIOError},
		"legacy SCSI command":         {2, 0, nil, nil, statusUnsupported},
		"unknown type":                {999, 0, []virtiotest.Buffer{out(0, 512)}, nil, statusUnsupported},
		"largest type":                {math.MaxUint32, 0, []virtiotest.Buffer{in(0, 512)}, nil, statusUnsupported},
		"barrier bit":                 {kindWrite | 1<<31, 0, []virtiotest.Buffer{out(0, 512)}, nil, statusUnsupported},
		"short identification":        {kindGetID, 0, []virtiotest.Buffer{in(0, 19)}, nil, statusIOError},
		"identification without room": {kindGetID, 0, nil, nil, statusIOError},
		"identification of data":      {kindGetID, 0, []virtiotest.Buffer{out(0, 20)}, nil, statusIOError},
		"discard of nothing":          {kindDiscard, 0, nil, nil, statusIOError},
		"discard of half a range":     {kindDiscard, 0, []virtiotest.Buffer{out(0, 8)}, nil, statusIOError},
		"discard past the end":        {kindDiscard, 0, nil, [][3]uint64{{sectors, 1, 0}}, statusIOError},
		"discard over the end":        {kindDiscard, 0, nil, [][3]uint64{{1, sectors, 0}}, statusIOError},
		"discard that wraps":          {kindDiscard, 0, nil, [][3]uint64{{math.MaxUint64, 2, 0}}, statusIOError},
		"zeroes that wrap":            {kindWriteZeroes, 0, nil, [][3]uint64{{1 << 55, math.MaxUint32, 0}}, statusIOError},
		"discard with unmap":          {kindDiscard, 0, nil, [][3]uint64{{0, 1, flagUnmap}}, statusUnsupported},
		"zeroes with reserved flags":  {kindWriteZeroes, 0, nil, [][3]uint64{{0, 1, 2}}, statusUnsupported},
		"too many ranges":             {kindDiscard, 0, nil, make([][3]uint64, maxRanges+1), statusIOError},
		"second range is wrong":       {kindWriteZeroes, 0, nil, [][3]uint64{{0, 0, 0}, {sectors, 1, 0}}, statusIOError},
	}
	ro := map[string]request{
		"write":            {kindWrite, 0, []virtiotest.Buffer{out(0, 512)}, nil, statusIOError},
		"flush":            {kindFlush, 0, nil, nil, statusUnsupported},
		"discard":          {kindDiscard, 0, nil, [][3]uint64{{0, 1, 0}}, statusUnsupported},
		"write of zeroes":  {kindWriteZeroes, 0, nil, [][3]uint64{{0, 1, 0}}, statusUnsupported},
		"read past it all": {kindRead, sectors, []virtiotest.Buffer{in(0, 512)}, nil, statusIOError},
	}
	for readOnly, requests := range map[bool]map[string]request{false: rw, true: ro} {
		for layout, cfg := range layouts {
			f := newFake(sectors)
			copy(f.data, noise(len(f.data)))
			g := newGuestOf(t, Config{Backend: f, ReadOnly: readOnly}, cfg)
			for name, r := range requests {
				copy(g.data(0, 2048), noise(2048))
				if r.ranges != nil {
					r.data = []virtiotest.Buffer{g.ranges(r.ranges...)}
				}
				s, n := g.do(r.kind, r.sector, r.data...)
				assert.Equal(t, r.want, s, "%s: %s", layout, name)
				assert.LessOrEqual(t, n, uint32(1), "%s: %s", layout, name)
			}
			assert.Empty(t, f.done(), "the backend never saw them")
			assert.False(t, g.NeedsReset())
			assert.EqualValues(t, len(requests), g.dev.Stats().Failed)
			assert.Equal(t, f.data, g.read(0, sectors*SectorSize))
		}
	}
}

// TestChainsWithoutAStatus break the queue: there is no way to answer (N46, N47).
func TestChainsWithoutAStatus(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string]func(*guest) []virtiotest.Buffer{
		"header alone":        func(g *guest) []virtiotest.Buffer { return []virtiotest.Buffer{g.header(0, kindFlush, 0)} },
		"status is read-only": func(g *guest) []virtiotest.Buffer { return []virtiotest.Buffer{g.header(0, kindFlush, 0), out(0, 1)} },
		"status of no bytes":  func(g *guest) []virtiotest.Buffer { return []virtiotest.Buffer{g.header(0, kindFlush, 0), in(0, 0)} },
		"read-only after it": func(g *guest) []virtiotest.Buffer {
			return []virtiotest.Buffer{g.header(0, kindRead, 0), in(0, 513), out(0, 1)}
		},
		"out of memory": func(g *guest) []virtiotest.Buffer {
			return []virtiotest.Buffer{g.header(0, kindRead, 0), {Addr: virtiotest.RAMSize - 511, Len: 512, Write: true}, g.status(0)}
		},
		"wraps": func(g *guest) []virtiotest.Buffer {
			return []virtiotest.Buffer{g.header(0, kindRead, 0), {Addr: math.MaxUint64 - 100, Len: 512, Write: true}, g.status(0)}
		},
	} {
		f := newFake(8)
		g := newGuest(t, f, virtiotest.Config{})
		g.q.Add(chain(g)...)
		g.q.Notify()
		assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest, name)
		g.q.Notify()
		assert.Empty(t, f.done(), name)
		g.restart()
		assert.Equal(t, make([]byte, 512), g.read(0, 512), "%s: it works again after a reset", name)
	}
}

// TestShortHeader gets an error where there is a status (N46).
func TestShortHeader(t *testing.T) {
	t.Parallel()
	f := newFake(8)
	g := newGuest(t, f, virtiotest.Config{})
	for n := range uint32(headerSize) {
		h := g.header(0, kindWrite, 0)
		h.Len = n
		g.q.Do(h, g.status(0))
		assert.Equal(t, statusIOError, g.result(0), "%d bytes", n)
	}
	u := g.q.Do(g.status(1))
	assert.Equal(t, statusIOError, g.result(1), "no header at all")
	assert.EqualValues(t, 1, u.Len)
	assert.Empty(t, f.done())
}

// TestStatusInTheMiddle takes the last byte that it may write for the status (N47).
func TestStatusInTheMiddle(t *testing.T) {
	t.Parallel()
	g := newGuest(t, newFake(8), virtiotest.Config{})
	g.data(511, 1)[0] = noStatus
	u := g.q.Do(g.header(0, kindRead, 0), g.status(0), in(0, 512))
	assert.EqualValues(t, 513, u.Len, "512 bytes and a status, wherever the buffers end")
	assert.EqualValues(t, statusOK, g.data(511, 1)[0])
}

// TestBackendFails turns what the host reports into IOERR, and goes on (N54).
func TestBackendFails(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	g := newGuest(t, f, virtiotest.Config{})
	for _, err := range []error{syscall.EIO, syscall.ENOSPC, errors.New("anything")} {
		f.fail(err)
		s, n := g.do(kindRead, 0, in(0, 512))
		assert.Equal(t, statusIOError, s)
		assert.Zero(t, n)
		for _, k := range []kind{kindWrite, kindFlush} {
			var data []virtiotest.Buffer
			if k == kindWrite {
				data = append(data, out(0, 512))
			}
			s, n = g.do(k, 0, data...)
			assert.Equal(t, statusIOError, s)
			assert.EqualValues(t, 1, n)
		}
		for _, k := range []kind{kindDiscard, kindWriteZeroes} {
			s, _ = g.do(k, 0, g.ranges([3]uint64{0, 8, 0}))
			assert.Equal(t, statusIOError, s)
		}
	}
	assert.EqualValues(t, 15, g.dev.Stats().Failed)
	f.fail(nil)
	g.write(1, noise(512))
	assert.Equal(t, noise(512), g.read(1, 512))
}

// TestSameHeadTwice offers a chain again while the device has it (N55).
func TestSameHeadTwice(t *testing.T) {
	t.Parallel()
	f := newFake(8)
	release := make(chan struct{})
	f.flushes = func() { <-release }
	g := newGuest(t, f, virtiotest.Config{})
	head := g.q.Add(g.header(0, kindFlush, 0), g.status(0))
	g.q.Notify()
	g.Eventually(func() bool { return f.running.Load() == 1 }, "the flush")
	g.q.Offer(head)
	g.q.Notify()
	assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest)
	close(release)
	g.restart()
	g.ok(kindFlush, 0)
}

// TestDataOverTheRings lets the guest shoot itself in the foot, but nobody else (N17).
func TestDataOverTheRings(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	copy(f.data, noise(len(f.data)))
	g := newGuest(t, f, virtiotest.Config{})
	for _, addr := range []uint64{g.q.Desc, g.q.Avail, g.q.Used &^ 1} {
		g.q.Add(g.header(0, kindRead, 0), virtiotest.Buffer{Addr: addr, Len: 2048, Write: true}, g.status(0))
		g.q.Notify()
		time.Sleep(time.Millisecond)
		for i := range uint16(8) { // whatever is in the rings now
			g.q.SetAvailable(i * 3)
			g.q.Notify()
		}
		g.restart()
	}
	assert.Equal(t, f.data, g.read(0, len(f.data)))
}

// TestGuestRewritesAHeader while the device has it: what was checked is what is done
// (N29).
func TestGuestRewritesAHeader(t *testing.T) {
	t.Parallel()
	f := newFake(64)
	f.flushes = func() { time.Sleep(time.Microsecond) }
	g := newGuest(t, f, virtiotest.Config{})
	stop, stopped := make(chan struct{}), make(chan struct{})
	h := g.header(0, kindWrite, 3)
	b := g.Bytes(h.Addr, headerSize)
	rs := g.Bytes(dataArea, 16)
	go func() {
		defer close(stopped)
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			binary.LittleEndian.PutUint64(b[8:], i*0x123456789)
			binary.LittleEndian.PutUint64(b[8:], i%64)
			binary.LittleEndian.PutUint32(b, uint32(i%14))
			binary.LittleEndian.PutUint64(rs, i<<54)
			binary.LittleEndian.PutUint32(rs[8:], uint32(i))
			binary.LittleEndian.PutUint32(rs[12:], uint32(i&1))
		}
	}()
	for range 500 {
		g.q.Do(h, out(0, 16), g.status(0))
		require.Contains(t, []status{statusOK, statusIOError, statusUnsupported}, g.result(0))
	}
	close(stop)
	<-stopped
	assert.False(t, g.NeedsReset())
	require.Len(t, f.data, 64*SectorSize)
}
