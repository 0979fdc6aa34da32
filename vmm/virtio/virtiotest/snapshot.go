package virtiotest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// Snapshot is a machine at rest: the state of the transport and the device, and all of
// RAM.
type Snapshot struct {
	State []byte
	RAM   [][]byte // by region

	features uint64
	next     uint64
	queues   []*Queue
}

// Save takes a snapshot. The device should be paused.
func (d *Driver) Save() Snapshot {
	d.t.Helper()
	state, err := d.MMIO.SaveState()
	require.NoError(d.t, err)
	s := Snapshot{State: state, features: d.Features, next: d.next}
	for _, r := range d.Memory.Regions() {
		s.RAM = append(s.RAM, slices.Clone(r.Host))
	}
	for _, q := range d.Queues {
		s.queues = append(s.queues, q.clone(nil))
	}
	return s
}

// Restore runs a copy of the machine on dev, with the same guest in it. cfg is that of
// the original.
func Restore(t testing.TB, dev virtio.Device, cfg Config, s Snapshot) *Driver {
	t.Helper()
	d := New(t, dev, cfg)
	d.Adopt(s)
	require.NoError(t, d.MMIO.RestoreState(s.State))
	return d
}

// Adopt gives d the memory and the driver of a snapshot, but not the device's state.
func (d *Driver) Adopt(s Snapshot) {
	d.t.Helper()
	d.Features, d.next, d.Queues = s.features, s.next, nil
	for i, r := range d.Memory.Regions() {
		copy(r.Host, s.RAM[i])
	}
	for _, q := range s.queues {
		d.Queues = append(d.Queues, q.clone(d))
	}
}

func (q *Queue) clone(d *Driver) *Queue {
	c := *q
	c.d = d
	c.free, c.counts = slices.Clone(q.free), slices.Clone(q.counts)
	c.links, c.tables = slices.Clone(q.links), slices.Clone(q.tables)
	return &c
}
