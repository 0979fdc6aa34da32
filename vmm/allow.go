package vmm

import "fmt"

// Processors beyond Config.VCPUs are there from the boot on, so that any kernel that can
// start and stop processors can use them; it needs no driver and no ACPI. The monitor does
// not run them unless it is told to: a guest that starts one all the same finds that it
// does not come up.

// Possible is how many processors the machine has, whether they may run or not.
func (m *Machine) Possible() int { return len(m.vcpus) }

// Allowed is how many processors may run.
func (m *Machine) Allowed() int {
	n := 0
	for _, c := range m.vcpus {
		if !c.held.Load() {
			n++
		}
	}
	return n
}

// Allow lets the first n processors run and stops the others at once, whatever they do: the
// guest should have switched those off before. Its error wraps ErrConfig.
func (m *Machine) Allow(n int) error {
	if n < 1 || n > len(m.vcpus) {
		return fmt.Errorf("%w: %d vCPUs: choose 1 to %d", ErrConfig, n, len(m.vcpus))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.vcpus {
		hold := c.id >= n
		if c.held.Swap(hold) != hold && hold {
			c.hv.Kick()
		}
	}
	m.cond.Broadcast()
	return nil
}

// holdOffline holds a restored processor that need not run from the start, and that nothing
// but another one could wake: it was held when it was saved, or idle for good.
func (m *Machine) holdOffline(c *vcpu) error {
	if c.id < m.boots {
		return nil
	}
	asleep, err := c.hv.Asleep()
	if err == nil {
		c.held.Store(asleep)
	}
	return err
}
