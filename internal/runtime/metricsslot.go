package runtime

import "time"

// metricsSlot is the sandbox's place in the shared metrics registry.
type metricsSlot interface {
	// Sample publishes what is known now.
	Sample(now time.Time, s Stats) error
	// Release marks the slot as left behind.
	Release()
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
		if err := c.slot.Sample(time.Now(), c.machine.Stats()); err != nil {
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
