package runtime

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/metrics"
)

// metricsSlot is the sandbox's place in the shared metrics registry.
type metricsSlot struct {
	registry *metrics.Registry
	writer   *metrics.Writer
	upper    string          // file of the writable layer; empty: none
	resident *residentReader // nil where the host does not tell
	last     metrics.Sample  // its At is zero before the first one
}

// activateMetrics takes over the slot that the controller reserved. A sandbox runs
// without metrics if that fails.
func activateMetrics(slot launch.MetricsSlot, run metrics.Run, upper string) (*metricsSlot, error) {
	registry, err := metrics.Open(slot.ShmName)
	if err != nil {
		return nil, err
	}
	writer, err := registry.Activate(metrics.Reservation{Slot: slot.Slot, Generation: slot.Generation}, run)
	if err != nil {
		return nil, errors.Join(err, registry.Close())
	}
	return &metricsSlot{registry: registry, writer: writer, upper: upper, resident: openResident()}, nil
}

// sample publishes what is known now; upper is nil if the guest does not say.
func (m *metricsSlot) sample(now time.Time, s Stats, upper *upperSpace) error {
	next := metrics.Sample{
		At: now, MemoryTotal: s.MemoryTotal, VCPUTime: s.CPUTime, DiskRead: s.DiskRead, DiskWritten: s.DiskWritten, NetReceived: s.NetReceived, NetSent: s.NetSent,
	}
	if wall := now.Sub(m.last.At); !m.last.At.IsZero() && wall > 0 {
		next.Known |= metrics.CPUPercent
		next.CPUPercent = float32(100 * float64(s.CPUTime-m.last.VCPUTime) / float64(wall))
	}
	if s.MemoryKnown {
		next.Known |= metrics.MemoryUsed | metrics.MemoryAvailable
		next.MemoryUsed, next.MemoryFree = s.MemoryUsed, s.MemoryAvailable
	}
	if n, ok := m.resident.bytes(); ok {
		next.Known |= metrics.HostResident
		next.HostResident = n
	}
	var st unix.Stat_t
	if m.upper != "" && unix.Stat(m.upper, &st) == nil {
		next.Known |= metrics.UpperOnHost
		next.UpperOnHost = uint64(st.Blocks) * 512
	}
	if upper != nil {
		next.Known |= metrics.UpperUsed | metrics.UpperFree
		next.UpperUsed, next.UpperFree = upper.Used, upper.Free
	}
	m.last = next
	return m.writer.Sample(&next)
}

// release gives the slot up; ran tells whether there may be a sample worth keeping.
func (m *metricsSlot) release(ran bool) error {
	state := metrics.Free
	if ran {
		state = metrics.Stale
	}
	m.writer.Release(state)
	return errors.Join(m.resident.close(), m.registry.Close())
}

// sample publishes the machine's counters at the configured interval, beginning now.
func (c *control) sample() {
	interval := c.config.StatsInterval
	if c.slot == nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := c.slot.sample(time.Now(), c.machine.Stats(), c.pulse.upper()); err != nil {
			c.log.Warn("no more metrics", "err", err)
			return
		}
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
	}
}
