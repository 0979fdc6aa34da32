package console

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// two is a console and a port.
func two(s *sink) Config {
	return Config{Ports: []Port{{Console: true, Output: s}, {Name: "x", Output: s}}, Size: Size{80, 24}}
}

// TestHostileControlMessages (N91): none of them has an answer or an effect.
func TestHostileControlMessages(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"N91 port out of range":    control{id: 2, event: eventPortReady, value: 1}.appendTo(nil),
		"N91 port 2^31":            control{id: 1 << 31, event: eventPortOpen, value: 1}.appendTo(nil),
		"N91 port 2^32-1":          control{id: 1<<32 - 1, event: eventPortReady, value: 1}.appendTo(nil),
		"N91 seven bytes":          control{event: eventDeviceReady, value: 1}.appendTo(nil)[:7],
		"N91 one byte":             {0},
		"the device's own add":     control{event: eventPortAdd, value: 1}.appendTo(nil),
		"the device's own remove":  control{event: eventPortRemove, value: 1}.appendTo(nil),
		"the device's own console": control{event: eventConsolePort, value: 1}.appendTo(nil),
		"the device's own resize":  control{event: eventResize}.appendTo(nil),
		"the device's own name":    append(control{event: eventPortName, value: 1}.appendTo(nil), strings.Repeat("n", 4000)...),
		"unknown event":            control{event: 8, value: 1}.appendTo(nil),
		"event 65535":              control{event: 65535, value: 65535}.appendTo(nil),
		"driver gave up":           control{event: eventDeviceReady, value: 0}.appendTo(nil),
		"driver ready with 2":      control{event: eventDeviceReady, value: 2}.appendTo(nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s sink
			g := newGuest(t, two(&s), virtiotest.Config{})
			g.boot()
			g.raw(b)
			g.hearsNothing()
			assert.EqualValues(t, 1, g.ignored.Load())
			g.print(1, "fine")
			s.holds(t, "fine")
			assert.NoError(t, g.MMIO.Failure())
		})
	}
	t.Run("no byte", func(t *testing.T) {
		t.Parallel()
		var s sink
		g := newGuest(t, two(&s), virtiotest.Config{})
		g.Queues[controlOut].Do(virtiotest.Buffer{Addr: g.area(controlOut)})
		assert.EqualValues(t, 1, g.ignored.Load())
	})
	t.Run("only writable", func(t *testing.T) {
		t.Parallel()
		var s sink
		g := newGuest(t, two(&s), virtiotest.Config{})
		u := g.Queues[controlOut].Do(virtiotest.Buffer{Addr: g.area(controlOut), Len: 8, Write: true})
		assert.Zero(t, u.Len)
		assert.EqualValues(t, 1, g.ignored.Load())
	})
	t.Run("split over descriptors", func(t *testing.T) {
		t.Parallel()
		var s sink
		g := newGuest(t, two(&s), virtiotest.Config{})
		at := g.area(controlOut)
		g.Write(at, control{event: eventDeviceReady, value: 1}.appendTo(nil))
		g.Queues[controlOut].Do(virtiotest.Buffer{Addr: at, Len: 1}, virtiotest.Buffer{Addr: at + 1, Len: 6}, virtiotest.Buffer{Addr: at + 7, Len: 1})
		m, _ := g.hears()
		assert.Equal(t, eventPortAdd, m.event)
	})
}

// TestControlFlood (N91, resize flood and more) asks for messages and takes none: their
// number is bounded, and the last word is right.
func TestControlFlood(t *testing.T) {
	t.Parallel()
	var s sink
	g := newGuest(t, two(&s), virtiotest.Config{})
	for i := range 1000 {
		g.control(control{event: eventDeviceReady, value: 1})
		g.control(control{id: uint32(i % 3), event: eventPortReady, value: 1})
		g.Resize(Size{Cols: uint16(i), Rows: 7})
	}
	q := g.Queues[controlIn]
	assert.LessOrEqual(t, q.UsedIndex(), uint16(controlQueueSize))
	last := make(map[uint32][]byte)
	for {
		b, ok := g.take(controlIn)
		if !ok {
			time.Sleep(quiet)
			if b, ok = g.take(controlIn); !ok {
				break
			}
		}
		if m := parseControl((*[controlSize]byte)(b)); m.event == eventResize {
			last[m.id] = b[controlSize:]
		}
	}
	assert.Equal(t, map[uint32][]byte{0: {7, 0, byte(999 & 0xff), 999 >> 8}}, last)
	g.print(1, "fine")
	s.holds(t, "fine")
}

// TestBrokenQueues puts the device into NEEDS_RESET, whichever queue it is, and a reset
// repairs it.
func TestBrokenQueues(t *testing.T) {
	t.Parallel()
	jump := func(q *virtiotest.Queue) { q.SetAvailable(q.Next + q.Size + 1) }
	badHead := func(q *virtiotest.Queue) { q.Offer(0xffff) }
	for name, c := range map[string]struct {
		queue int
		spoil func(q *virtiotest.Queue)
	}{
		"console in":            {0, jump},
		"console out":           {1, jump},
		"control in":            {controlIn, jump},
		"control out":           {controlOut, jump},
		"port in":               {4, jump},
		"port out":              {5, jump},
		"console out, bad head": {1, badHead},
		"control out, bad head": {controlOut, badHead},
		"port out, bad head":    {5, badHead},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s sink
			cfg := two(&s)
			cfg.Ports[0].Input, cfg.Ports[1].Input = endless{}, endless{} // it looks for buffers
			g := newGuest(t, cfg, virtiotest.Config{})
			g.boot()
			c.spoil(g.Queues[c.queue])
			g.Queues[c.queue].Notify()
			g.Resize(Size{1, 1}) // there is something to tell
			assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest)
			g.restart()
			g.boot()
			g.print(1, "repaired")
			s.holds(t, "repaired")
		})
	}
}

// TestTinyBuffers: a control buffer that holds no message breaks the device, an input
// buffer of any size does not.
func TestTinyBuffers(t *testing.T) {
	t.Parallel()
	t.Run("control", func(t *testing.T) {
		t.Parallel()
		var s sink
		d, err := New(two(&s))
		require.NoError(t, err)
		g := virtiotest.Start(t, d, virtiotest.Config{})
		g.Queues[controlIn].Add(virtiotest.Buffer{Addr: virtiotest.DataBase, Len: 7, Write: true})
		g.Write(virtiotest.DataBase+64, control{event: eventDeviceReady, value: 1}.appendTo(nil))
		g.Queues[controlOut].Add(virtiotest.Buffer{Addr: virtiotest.DataBase + 64, Len: 8})
		g.Queues[controlOut].Kick()
		assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest)
	})
	t.Run("input", func(t *testing.T) {
		t.Parallel()
		d, err := New(Config{Ports: []Port{{Console: true, Input: strings.NewReader("abcdef")}}})
		require.NoError(t, err)
		g := virtiotest.Start(t, d, virtiotest.Config{})
		at := uint64(virtiotest.DataBase)
		var got []byte
		for _, n := range []uint32{0, 1, 2, 0, 100} {
			u := g.Queues[0].Do(virtiotest.Buffer{Addr: at, Len: n, Write: true})
			got = append(got, g.Bytes(at, int(u.Len))...)
		}
		assert.Equal(t, "abcdef", string(got))
	})
	t.Run("input to a readable buffer", func(t *testing.T) {
		t.Parallel()
		d, err := New(Config{Ports: []Port{{Console: true, Input: strings.NewReader("ab")}}})
		require.NoError(t, err)
		g := virtiotest.Start(t, d, virtiotest.Config{})
		at := uint64(virtiotest.DataBase)
		assert.Zero(t, g.Queues[0].Do(virtiotest.Buffer{Addr: at, Len: 10}).Len)
		assert.Equal(t, make([]byte, 10), g.Bytes(at, 10))
		assert.EqualValues(t, 2, g.Queues[0].Do(virtiotest.Buffer{Addr: at, Len: 10, Write: true}).Len)
	})
	t.Run("output from a writable buffer", func(t *testing.T) {
		t.Parallel()
		var s sink
		d, err := New(Config{Ports: []Port{{Console: true, Output: &s}}})
		require.NoError(t, err)
		g := virtiotest.Start(t, d, virtiotest.Config{})
		at := uint64(virtiotest.DataBase)
		g.Write(at, []byte("ab"))
		g.Queues[1].Do(virtiotest.Buffer{Addr: at, Len: 10, Write: true})
		g.Queues[1].Do(virtiotest.Buffer{Addr: at, Len: 2}, virtiotest.Buffer{Addr: at, Len: 10, Write: true})
		s.holds(t, "ab")
	})
}

// TestGuestCannotFillTheLog breaks the device again and again.
func TestGuestCannotFillTheLog(t *testing.T) {
	t.Parallel()
	var log sink
	g := newGuest(t, Config{Ports: []Port{{Console: true}}, Logger: slog.New(slog.NewTextHandler(&log, nil))}, virtiotest.Config{})
	for range 20 {
		g.Queues[1].Offer(0xffff)
		g.Queues[1].Notify()
		assert.ErrorIs(t, g.WaitBroken(), virtio.ErrGuest)
		g.restart()
	}
	assert.Equal(t, 1, strings.Count(log.String(), "\n"), "%s", log.String())
}
