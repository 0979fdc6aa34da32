package console

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	quiet    = 20 * time.Millisecond
	watchdog = 20 * time.Second

	// Each queue has an area of its own, each buffer in it a page.
	area, page = 1 << 18, 4096
)

// guest plays the driver of a guest and the programs in it.
type guest struct {
	*Device
	*virtiotest.Driver
	t     testing.TB
	slots [][]uint64 // by queue and head: the address of a buffer for the device
	bufs  [1]virtiotest.Buffer
}

// newGuest starts a device and gives it buffers wherever it can have some.
func newGuest(t testing.TB, cfg Config, ring virtiotest.Config) *guest {
	t.Helper()
	d, err := New(cfg)
	require.NoError(t, err)
	g := &guest{t: t, Device: d, Driver: virtiotest.New(t, d, ring)}
	g.restart()
	return g
}

// restart is a reset and a new driver.
func (g *guest) restart() {
	g.Restart()
	g.slots = make([][]uint64, len(g.Queues))
	for i, q := range g.Queues {
		g.slots[i] = make([]uint64, q.Size)
		if i%2 == 0 {
			for n := range uint64(q.Size) {
				g.post(i, g.area(i)+n*page)
			}
			q.Kick()
		}
	}
}

func (g *guest) area(queue int) uint64 { return virtiotest.DataBase + uint64(queue)*area }

func (g *guest) post(queue int, addr uint64) {
	g.bufs[0] = virtiotest.Buffer{Addr: addr, Len: page, Write: true}
	g.slots[queue][g.Queues[queue].Add(g.bufs[:]...)] = addr
}

// take is the next buffer that the device has filled, if there is one; it goes back at
// once.
func (g *guest) take(queue int) ([]byte, bool) {
	u, ok := g.Queues[queue].Take()
	if !ok {
		return nil, false
	}
	addr := g.slots[queue][u.Head]
	b := bytes.Clone(g.Bytes(addr, int(u.Len)))
	g.post(queue, addr)
	g.Queues[queue].Kick()
	return b, true
}

// control sends a control message and waits until the device has taken it.
func (g *guest) control(m control) {
	g.t.Helper()
	g.raw(m.appendTo(nil))
}

func (g *guest) raw(b []byte) {
	g.t.Helper()
	g.Write(g.area(controlOut), b)
	g.Queues[controlOut].Do(virtiotest.Buffer{Addr: g.area(controlOut), Len: uint32(len(b))})
}

// hears waits for the next control message of the device.
func (g *guest) hears() (m control, rest []byte) {
	g.t.Helper()
	var b []byte
	g.Eventually(func() (ok bool) {
		b, ok = g.take(controlIn)
		return ok
	}, "a control message")
	require.GreaterOrEqual(g.t, len(b), controlSize)
	return parseControl((*[controlSize]byte)(b)), b[controlSize:]
}

// hearsNothing checks that no control message comes.
func (g *guest) hearsNothing() {
	g.t.Helper()
	time.Sleep(quiet)
	b, ok := g.take(controlIn)
	require.False(g.t, ok, "control message %x", b)
}

// boot does what Linux does: it learns the ports and opens them all. It returns the
// messages of each port after it was ready.
func (g *guest) boot() map[uint32][]control {
	g.t.Helper()
	g.control(control{event: eventDeviceReady, value: 1})
	for i := range g.Device.ports {
		m, _ := g.hears()
		require.Equal(g.t, control{id: uint32(i), event: eventPortAdd, value: 1}, m)
	}
	told := make(map[uint32][]control)
	for i := range uint32(len(g.Device.ports)) {
		g.control(control{id: i, event: eventPortReady, value: 1})
		for {
			m, _ := g.hears()
			require.Equal(g.t, i, m.id)
			told[i] = append(told[i], m)
			if m.event == eventPortOpen && (!g.Device.ports[i].console || !g.Device.sizable) || m.event == eventResize {
				break // the last one
			}
		}
		g.control(control{id: i, event: eventPortOpen, value: 1})
	}
	return told
}

// print writes to a port and waits until the device has taken it.
func (g *guest) print(port int, s string) {
	g.t.Helper()
	g.printAsync(port, s)
	require.Zero(g.t, g.Queues[portQueue(port)+1].Wait().Len)
}

// printAsync writes without waiting. The bytes lie in the first page of the queue's area.
func (g *guest) printAsync(port int, s string) {
	queue := portQueue(port) + 1
	g.Write(g.area(queue), []byte(s))
	g.Queues[queue].Add(virtiotest.Buffer{Addr: g.area(queue), Len: uint32(len(s))})
	g.Queues[queue].Kick()
}

// reads waits for n bytes from a port.
func (g *guest) reads(port, n int) string {
	g.t.Helper()
	var got []byte
	g.Eventually(func() bool {
		b, _ := g.take(portQueue(port))
		got = append(got, b...)
		return len(got) >= n
	}, "input")
	return string(got)
}

// readsNothing checks that nothing comes from a port.
func (g *guest) readsNothing(port int) {
	g.t.Helper()
	time.Sleep(quiet)
	b, ok := g.take(portQueue(port))
	require.False(g.t, ok, "input %q", b)
}

// sink is a writer whose bytes can be looked at.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// holds waits until the sink has what was expected, and nothing else.
func (s *sink) holds(t testing.TB, want string) {
	t.Helper()
	assert.Eventually(t, func() bool { return s.String() == want }, watchdog, time.Millisecond, "%q", want)
}

// source is a reader that another goroutine feeds; it is closed by the device.
func source(t testing.TB) (io.Reader, *io.PipeWriter) {
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	return r, w
}

// feed writes to a source without waiting for a reader.
func feed(t testing.TB, w *io.PipeWriter, s string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.WriteString(w, s) // it fails at the end of the test
	}()
	t.Cleanup(func() {
		_ = w.Close()
		<-done
	})
}
