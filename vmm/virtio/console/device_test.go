package console

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	many := make([]Port, 32)
	for name, c := range map[string]struct {
		cfg  Config
		good bool
	}{
		"one console":     {Config{Ports: []Port{{Console: true}}}, true},
		"31 ports":        {Config{Ports: many[:31]}, true},
		"name of 64":      {Config{Ports: []Port{{Name: strings.Repeat("n", 64)}}}, true},
		"no ports":        {Config{}, false},
		"32 ports":        {Config{Ports: many}, false},
		"name of 65":      {Config{Ports: []Port{{Name: strings.Repeat("n", 65)}}}, false},
		"same name":       {Config{Ports: []Port{{Name: "a"}, {Name: "b"}, {Name: "a"}}}, false},
		"several unnamed": {Config{Ports: []Port{{}, {}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(c.cfg)
			if c.good {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, ErrConfig)
			}
		})
	}
}

func TestWhatIsOffered(t *testing.T) {
	t.Parallel()
	console := Port{Console: true}
	for name, c := range map[string]struct {
		cfg      Config
		features uint64
		queues   []uint16
	}{
		"console":            {Config{Ports: []Port{console}}, 0, []uint16{4, 64}},
		"console with input": {Config{Ports: []Port{{Console: true, Input: strings.NewReader("")}}}, 0, []uint16{64, 64}},
		"console with size":  {Config{Ports: []Port{console}, Size: Size{80, 24}}, featureSize, []uint16{4, 64}},
		"multiport wanted":   {Config{Ports: []Port{console}, Multiport: true}, featureMultiport, []uint16{4, 64, 32, 32}},
		"named console":      {Config{Ports: []Port{{Console: true, Name: "x"}}}, featureMultiport, []uint16{4, 64, 32, 32}},
		"port":               {Config{Ports: []Port{{}}}, featureMultiport, []uint16{4, 64, 32, 32}},
		"three":              {Config{Ports: []Port{console, {Name: "x"}, {Name: "y"}}}, featureMultiport, []uint16{4, 64, 32, 32, 4, 64, 4, 64}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := New(c.cfg)
			require.NoError(t, err)
			assert.EqualValues(t, 3, d.ID())
			assert.Equal(t, c.features, d.Features())
			assert.Equal(t, c.queues, d.QueueSizes())
		})
	}
}

func TestConfigurationSpace(t *testing.T) {
	t.Parallel()
	g := newGuest(t, Config{Ports: []Port{{Console: true}, {Name: "x"}}, Size: Size{Cols: 0x0102, Rows: 0x0304}}, virtiotest.Config{})
	want := []byte{2, 1, 4, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	assert.Equal(t, want, g.Config(0, 16))
	g.MMIO.Write(virtiotest.RegConfig, []byte{9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9})
	assert.Equal(t, want, g.Config(0, 16), "it is read-only")
	for off := range uint64(20) {
		padded := append(append([]byte(nil), want...), make([]byte, 8)...)
		assert.Equal(t, padded[min(off, 16):][:4], g.Config(off, 4), "at %d", off)
	}
}

// TestSingleConsole works without the multiport protocol.
func TestSingleConsole(t *testing.T) {
	t.Parallel()
	var s sink
	r, w := source(t)
	g := newGuest(t, Config{Ports: []Port{{Console: true, Output: &s, Input: r}}}, virtiotest.Config{})
	g.print(0, "Linux version ")
	g.print(0, "6.12\n")
	s.holds(t, "Linux version 6.12\n")
	feed(t, w, "ls\n")
	assert.Equal(t, "ls\n", g.reads(0, 3))
	// The guest has the bytes before the device counts them.
	want := PortStats{Written: 19, Read: 3}
	assert.Eventually(t, func() bool { return g.Stats(0) == want }, time.Minute, time.Millisecond)
}

func TestMultiport(t *testing.T) {
	t.Parallel()
	var con, agent, log sink
	r, w := source(t)
	g := newGuest(t, Config{Size: Size{Cols: 80, Rows: 24}, Ports: []Port{
		{Console: true, Output: &con}, {Name: "agent", Output: &agent, Input: r}, {Name: "log", Output: &log},
	}}, virtiotest.Config{})
	told := g.boot()
	kinds := func(port uint32) (events []event) {
		for _, m := range told[port] {
			events = append(events, m.event)
		}
		return events
	}
	assert.Equal(t, []event{eventConsolePort, eventPortOpen, eventResize}, kinds(0))
	assert.Equal(t, []event{eventPortName, eventPortOpen}, kinds(1))
	assert.Equal(t, []event{eventPortName, eventPortOpen}, kinds(2))
	g.print(0, "on the console")
	g.print(1, "to the agent")
	g.print(2, "into the log")
	con.holds(t, "on the console")
	agent.holds(t, "to the agent")
	log.holds(t, "into the log")
	feed(t, w, "from the agent")
	assert.Equal(t, "from the agent", g.reads(1, 14))
	g.hearsNothing()
}

func TestPortName(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("n", 64)
	g := newGuest(t, Config{Ports: []Port{{Name: name}}}, virtiotest.Config{})
	g.control(control{event: eventPortReady, value: 1})
	m, rest := g.hears()
	assert.Equal(t, control{event: eventPortName, value: 1}, m)
	assert.Equal(t, name, string(rest))
}

// TestInputWaitsForAnOpenPort: bytes for a port that no program has open would be lost.
func TestInputWaitsForAnOpenPort(t *testing.T) {
	t.Parallel()
	r, w := source(t)
	g := newGuest(t, Config{Ports: []Port{{Name: "x", Input: r}}}, virtiotest.Config{})
	feed(t, w, "hello")
	g.readsNothing(0)
	g.control(control{event: eventPortOpen, value: 1})
	g.readsNothing(0) // it is not ready
	g.boot()
	assert.Equal(t, "hello", g.reads(0, 5))
	g.control(control{event: eventPortOpen, value: 0})
	feed(t, w, "again")
	g.readsNothing(0)
	g.control(control{event: eventPortOpen, value: 1})
	assert.Equal(t, "again", g.reads(0, 5))
	g.control(control{event: eventPortReady, value: 0})
	feed(t, w, "late")
	g.readsNothing(0)
}

// TestMuchInput goes through buffers that are taken one by one, and through none at all
// for a while.
func TestMuchInput(t *testing.T) {
	t.Parallel()
	for name, ring := range rings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := source(t)
			g := newGuest(t, Config{Ports: []Port{{Console: true, Input: r}}}, ring)
			var want strings.Builder
			for i := range 40000 {
				fmt.Fprintf(&want, "%d,", i)
			}
			feed(t, w, want.String())
			time.Sleep(quiet) // all buffers are full
			assert.Equal(t, want.String(), g.reads(0, want.Len()))
			assert.EqualValues(t, want.Len(), g.Stats(0).Read)
		})
	}
}

// rings are the kinds of rings that a driver may choose.
var rings = map[string]virtiotest.Config{
	"events":             {Refuse: virtio.FeatureIndirectDesc},
	"flags":              {Refuse: virtio.FeatureEventIdx | virtio.FeatureIndirectDesc},
	"indirect":           {Indirect: true},
	"flags and indirect": {Refuse: virtio.FeatureEventIdx, Indirect: true},
	"small":              {QueueSize: 2},
}

func TestMuchOutput(t *testing.T) {
	t.Parallel()
	for name, ring := range rings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s sink
			g := newGuest(t, Config{Ports: []Port{{Console: true, Output: &s}}}, ring)
			q, at := g.Queues[1], g.area(1)
			var want strings.Builder
			for i := range 20000 {
				line := fmt.Sprintf("line %d\n", i)
				want.WriteString(line)
				if q.Free() < 2 {
					q.Wait()
				}
				// Each in a place of its own, for the device may look later.
				addr := at + uint64(i%2000)*32
				g.Write(addr, []byte(line))
				q.Add(virtiotest.Buffer{Addr: addr, Len: 2}, virtiotest.Buffer{Addr: addr + 2, Len: uint32(len(line) - 2)})
				q.Kick()
				for {
					if _, ok := q.Take(); !ok {
						break
					}
				}
			}
			s.holds(t, want.String())
			assert.Equal(t, PortStats{Written: uint64(want.Len())}, g.Stats(0))
		})
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t, Config{Ports: []Port{{Console: true}}, Size: Size{80, 24}}, virtiotest.Config{})
		generation := g.Load(virtiotest.RegConfigGeneration)
		g.Resize(Size{Cols: 100, Rows: 50})
		assert.Equal(t, []byte{100, 0, 50, 0}, g.Config(0, 4))
		assert.NotEqual(t, generation, g.Load(virtiotest.RegConfigGeneration))
		assert.EqualValues(t, 2, g.Ack()&2, "a configuration interrupt")
		g.Resize(Size{Cols: 100, Rows: 50})
		assert.Zero(t, g.Ack()&2, "it is that size already")
	})
	t.Run("multiport", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t, Config{Ports: []Port{{Console: true}, {Name: "x"}, {Console: true}}, Size: Size{80, 24}}, virtiotest.Config{})
		g.boot()
		g.Resize(Size{Cols: 0x102, Rows: 0x304})
		for _, port := range []uint32{0, 2} {
			m, rest := g.hears()
			assert.Equal(t, control{id: port, event: eventResize}, m)
			assert.Equal(t, []byte{4, 3, 2, 1}, rest)
		}
		g.hearsNothing()
	})
	t.Run("no size", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t, Config{Ports: []Port{{Console: true}}}, virtiotest.Config{})
		g.Resize(Size{Cols: 100, Rows: 50})
		assert.Zero(t, g.Ack()&2)
		assert.Equal(t, []byte{0, 0, 0, 0}, g.Config(0, 4))
	})
	t.Run("size refused by the driver", func(t *testing.T) {
		t.Parallel()
		g := newGuest(t, Config{Ports: []Port{{Console: true}}, Size: Size{80, 24}}, virtiotest.Config{Refuse: featureSize})
		g.Resize(Size{Cols: 100, Rows: 50})
		assert.Zero(t, g.Ack()&2)
	})
	t.Run("without a driver", func(t *testing.T) {
		t.Parallel()
		d, err := New(Config{Ports: []Port{{Console: true}}, Size: Size{80, 24}})
		require.NoError(t, err)
		d.Resize(Size{1, 2})
		b := make([]byte, 4)
		d.ReadConfig(0, b)
		assert.Equal(t, []byte{1, 0, 2, 0}, b)
	})
}

// TestDriverWithoutMultiport finds a console on the first port.
func TestDriverWithoutMultiport(t *testing.T) {
	t.Parallel()
	var s sink
	d, err := New(Config{Ports: []Port{{Console: true, Output: &s}, {Name: "x"}}})
	require.NoError(t, err)
	driver := virtiotest.Start(t, d, virtiotest.Config{Refuse: featureMultiport})
	driver.Write(virtiotest.DataBase, []byte("early"))
	driver.Queues[1].Do(virtiotest.Buffer{Addr: virtiotest.DataBase, Len: 5})
	s.holds(t, "early")
}

// TestNobodyReads is a console without Output: the bytes count as written.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	g := newGuest(t, Config{Ports: []Port{{Console: true}}}, virtiotest.Config{})
	g.print(0, "gone")
	assert.Eventually(t, func() bool { return g.Stats(0) == PortStats{Written: 4} }, watchdog, time.Millisecond)
}

func TestInputEnds(t *testing.T) {
	t.Parallel()
	g := newGuest(t, Config{Ports: []Port{{Console: true, Input: io.LimitReader(strings.NewReader("all there is, and more"), 12)}}}, virtiotest.Config{})
	assert.Equal(t, "all there is", g.reads(0, 12))
	g.readsNothing(0)
	g.print(0, "and the device goes on")
}
