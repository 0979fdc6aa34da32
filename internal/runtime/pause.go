package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/internal/runtime/relay"
)

// pauser makes the machine stand still and go on, as clients of the control socket ask.
// Whatever ends a sandbox lets it go on first: a guest that stands still cannot go.
type pauser struct {
	machine Machine
	relay   *relay.Relay
	pulse   *pulse
	name    string                  // of the sandbox
	mark    func(paused bool) error // tells other programs
	log     *slog.Logger

	over atomic.Bool // the sandbox ends: no more pauses

	mu     sync.Mutex // held while the machine comes to a stop, for as long as that takes
	paused bool       // protected by mu
}

// errEnds refuses to pause what is about to go.
var errEnds = errors.New("the sandbox is being stopped")

// pause returns when the guest stands still. One that does already is no error.
func (p *pauser) pause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over.Load():
		return errEnds
	case p.paused:
		return nil
	}
	p.relay.Pause(fmt.Sprintf("sandbox %s is paused: resume it with: msb resume %s", p.name, p.name))
	if err := p.machine.Pause(); err != nil {
		p.relay.Resume()
		return err
	}
	p.pulse.hold()
	p.paused = true
	if err := p.mark(true); err != nil {
		return errors.Join(fmt.Errorf("record the pause: %w", err), p.release())
	}
	if p.over.Load() { // meanwhile
		return errors.Join(errEnds, p.release())
	}
	p.log.Info("the sandbox is paused")
	return nil
}

// still has f run while the guest stands still, which then goes on unless it was paused
// before. It returns for how long it stood still because of that. Clients do not notice:
// what they ask waits.
func (p *pauser) still(f func() error) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over.Load():
		return 0, errEnds
	case p.paused:
		return 0, f()
	}
	p.relay.Pause("")
	defer p.relay.Resume()
	began := time.Now()
	if err := p.machine.Pause(); err != nil {
		return 0, err
	}
	p.pulse.hold()
	err := f()
	resumed := p.machine.Resume()
	p.pulse.release()
	return time.Since(began), errors.Join(err, resumed)
}

// resume lets a paused guest go on. It does nothing to one that runs.
func (p *pauser) resume() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		return nil
	}
	if err := p.release(); err != nil {
		return err
	}
	p.log.Info("the sandbox is resumed")
	return nil
}

// release lets the paused guest go on. The caller holds mu.
func (p *pauser) release() error {
	if err := p.machine.Resume(); err != nil {
		return err
	}
	p.paused = false
	p.pulse.release()
	p.relay.Resume()
	if err := p.mark(false); err != nil {
		return fmt.Errorf("the sandbox runs, but that could not be recorded: %w", err)
	}
	return nil
}

// endPauses lets a paused guest go on for good, without waiting for it: a device that is
// busy on the host may keep the machine from coming to a stop.
func (c *control) endPauses() {
	p := c.pauser
	if p == nil {
		return
	}
	p.over.Store(true)
	c.captures.end()
	c.wg.Go(func() {
		if err := p.resume(); err != nil {
			p.log.Warn("cannot resume the sandbox that ends", "err", err)
		}
	})
}

// isPaused reports that the guest stands still. A nil pauser has none that does.
func (p *pauser) isPaused() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}
