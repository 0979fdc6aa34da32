package fs

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// layouts are all the ways in which a driver may lay its queues out.
var layouts = map[string]virtiotest.Config{
	"plain":       {Refuse: virtio.FeatureEventIdx | virtio.FeatureIndirectDesc},
	"event index": {Refuse: virtio.FeatureIndirectDesc},
	"indirect":    {Refuse: virtio.FeatureEventIdx, Indirect: true},
	"everything":  {Indirect: true},
	"small":       {QueueSize: 4},
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"no backend":       {Tag: "x"},
		"no tag":           {Backend: &fake{}},
		"long tag":         {Backend: &fake{}, Tag: strings.Repeat("t", 37)},
		"NUL in the tag":   {Backend: &fake{}, Tag: "a\x00b"},
		"negative queues":  {Backend: &fake{}, Tag: "x", Queues: -1},
		"too many queues":  {Backend: &fake{}, Tag: "x", Queues: MaxQueues + 1},
		"absurdly many":    {Backend: &fake{}, Tag: "x", Queues: 1 << 30},
		"everything wrong": {},
	} {
		_, err := New(c)
		assert.ErrorIs(t, err, ErrConfig, name)
	}
	for _, tag := range []string{"a", strings.Repeat("t", 36), "/dev/root"} {
		_, err := New(Config{Backend: &fake{}, Tag: tag})
		assert.NoError(t, err)
	}
}

func TestConfigurationSpace(t *testing.T) {
	t.Parallel()
	g := newGuestOf(t, Config{Backend: &fake{}, Tag: "etc_file.tx_cde76b0f", Queues: 3}, virtiotest.Config{})
	assert.EqualValues(t, 26, g.Load(virtiotest.RegDeviceID))
	space := g.Config(0, 44)
	assert.Equal(t, "etc_file.tx_cde76b0f", strings.TrimRight(string(space[:36]), "\x00"))
	assert.EqualValues(t, 3, binary.LittleEndian.Uint32(space[36:]))
	assert.Equal(t, make([]byte, 4), space[40:])
	assert.Equal(t, []byte("tc"), g.Config(1, 2))
	assert.Equal(t, make([]byte, 8), g.Config(1<<20, 8))
	g.MMIO.Write(virtiotest.RegConfig, []byte{9, 9, 9, 9})
	assert.Equal(t, space, g.Config(0, 44), "it cannot be written")
	assert.Len(t, g.Queues, 4)
	assert.EqualValues(t, hiprioSize, g.Queues[0].Size)
	assert.EqualValues(t, requestSize, g.Queues[3].Size)
	const all = virtio.FeatureVersion1 | virtio.FeatureIndirectDesc | virtio.FeatureEventIdx
	assert.EqualValues(t, all, g.Offered())
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for name, cfg := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, &fake{}, cfg)
			for i := range 300 {
				g.do(uint32(i%60+3), strings.Repeat("b", i))
			}
			assert.EqualValues(t, 300, g.dev.Stats().Requests)
			assert.EqualValues(t, g.q.Size, g.q.Free())
		})
	}
}

// TestForget has no answer, on either queue.
func TestForget(t *testing.T) {
	t.Parallel()
	f := &fake{}
	g := newGuest(t, f, virtiotest.Config{})
	for _, q := range []*virtiotest.Queue{g.Queues[hiprio], g.q} {
		unique, bufs := g.request(opForget, "nodes")
		u := q.Do(bufs[:2]...)
		assert.Zero(t, u.Len)
		assert.Contains(t, f.ended(), unique)
	}
}

// TestQueuesThatTheDriverLeavesAlone.
func TestQueuesThatTheDriverLeavesAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		enable []int
		good   bool
	}{
		"all": {[]int{0, 1, 2}, true}, "one request queue": {[]int{0, 2}, true}, "no high priority": {[]int{1}, true},
		"high priority only": {[]int{0}, false}, "none": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{}
			dev, err := New(Config{Backend: f, Tag: "x", Queues: 2})
			require.NoError(t, err)
			d := virtiotest.New(t, dev, virtiotest.Config{})
			d.Negotiate()
			d.LayOut()
			for _, i := range c.enable {
				d.Queues[i].Program()
			}
			d.Store(virtiotest.RegStatus, virtiotest.Running)
			if !c.good {
				assert.ErrorIs(t, d.WaitBroken(), virtio.ErrGuest)
				return
			}
			g := &guest{Driver: d, t: t, dev: dev, next: 1}
			for _, i := range c.enable {
				_, bufs := g.request(opLookup, "name")
				assert.EqualValues(t, HeaderSize+4, d.Queues[i].Do(bufs...).Len)
			}
		})
	}
}

// TestNoAllocations on the way of a request, from the kick to the interrupt.
func TestNoAllocations(t *testing.T) {
	f := &nothing{}
	dev, err := New(Config{Backend: f, Tag: "share"})
	require.NoError(t, err)
	d := virtiotest.Start(t, dev, virtiotest.Config{})
	g := &guest{Driver: d, t: t, dev: dev, q: d.Queues[1], next: 1}
	_, bufs := g.request(opLookup, "name")
	once := func() {
		g.q.Add(bufs...)
		g.q.Kick()
		for {
			if _, ok := g.q.Take(); ok {
				return
			}
			g.q.Sleep()
		}
	}
	once()
	assert.LessOrEqual(t, testing.AllocsPerRun(200, once), 0.0)
}

// nothing is a Backend that answers without allocating.
type nothing struct{ fake }

func (*nothing) Serve(header *[HeaderSize]byte, in, out [][]byte, patient bool) (uint32, bool) {
	return uint32(copy(out[0], header[:])), false
}
