package microsandbox

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// StopOption changes Stop.
type StopOption func(*stopConfig)

// KillOption changes Kill.
type KillOption func(*killConfig)

type stopConfig struct{ timeout time.Duration }

type killConfig struct{ timeout time.Duration }

const (
	stopTimeout = 10 * time.Second
	killTimeout = 5 * time.Second
)

// WithStopTimeout sets how long the guest may take before it is killed; default 10 s.
func WithStopTimeout(d time.Duration) StopOption { return func(c *stopConfig) { c.timeout = d } }

// WithKillTimeout sets how long Kill waits for the process to go; default 5 s.
func WithKillTimeout(d time.Duration) KillOption { return func(c *killConfig) { c.timeout = d } }

func stopOptions(opts []StopOption) stopConfig {
	c := stopConfig{timeout: stopTimeout}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// SandboxStopResult is how a sandbox ended.
type SandboxStopResult struct {
	Name       string
	Status     SandboxStatus
	ExitCode   *int
	Signal     *int
	ObservedAt time.Time
	Source     *string // why, as the runtime recorded it
}

// onCatalog runs f on the catalogue with the sandbox as it is now. A sandbox that is gone
// is ErrSandboxNotFound.
func (h *SandboxHandle) onCatalog(ctx context.Context, f func(*catalog, store.Sandbox) error) error {
	c, err := openCatalog(ctx, h.home, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return notFound(h.row.Name)
	}
	if err != nil {
		return err
	}
	defer c.close()
	row, err := c.again(ctx, h.row)
	if err != nil {
		return err
	}
	return f(c, row)
}

// gone makes the end of a sandbox that no longer exists a success: an ephemeral one is
// removed when it ends.
func gone(err error) error {
	if IsKind(err, ErrSandboxNotFound) {
		return nil
	}
	return err
}

// Stop asks the guest to shut down, waits, and kills it after the timeout. A sandbox
// that does not run is no error.
func (h *SandboxHandle) Stop(ctx context.Context, opts ...StopOption) error {
	return h.stop(ctx, nil, stopOptions(opts))
}

func (h *SandboxHandle) stop(ctx context.Context, agent *client.Client, cfg stopConfig) error {
	return gone(h.onCatalog(ctx, func(c *catalog, row store.Sandbox) error { return c.stop(ctx, row, agent, cfg.timeout) }))
}

// Kill ends the sandbox at once and waits until its process is gone. What the guest had
// not written is lost. A sandbox that does not run is no error.
func (h *SandboxHandle) Kill(ctx context.Context, opts ...KillOption) error {
	cfg := killConfig{timeout: killTimeout}
	for _, o := range opts {
		o(&cfg)
	}
	return gone(h.onCatalog(ctx, func(c *catalog, row store.Sandbox) error { return c.kill(ctx, row, cfg.timeout) }))
}

// stop ends a sandbox in good order. agent is a connection to it, nil if there is none.
func (c *catalog) stop(ctx context.Context, row store.Sandbox, agent *client.Client, timeout time.Duration) error {
	p, err := c.awaitProcess(ctx, row, timeout)
	if err != nil || p == nil {
		return err
	}
	defer p.close()
	if err := c.mark(ctx, row); err != nil {
		return err
	}
	if !c.ask(ctx, row, agent) {
		if err := p.signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	ended, err := p.wait(ctx, timeout)
	switch {
	case err != nil:
		return err
	case !ended:
		return c.killProcess(ctx, row, p, killTimeout)
	}
	_, err = c.again(ctx, row)
	return gone(err)
}

// kill ends a sandbox at once.
func (c *catalog) kill(ctx context.Context, row store.Sandbox, timeout time.Duration) error {
	p, err := c.awaitProcess(ctx, row, timeout)
	if err != nil || p == nil {
		return err
	}
	defer p.close()
	if err := c.mark(ctx, row); err != nil {
		return err
	}
	return c.killProcess(ctx, row, p, timeout)
}

func (c *catalog) killProcess(ctx context.Context, row store.Sandbox, p *process, timeout time.Duration) error {
	if err := p.signal(killSignal); err != nil {
		return err
	}
	ended, err := p.wait(ctx, timeout)
	if err != nil {
		return err
	}
	if !ended {
		return fail(ErrInternal, "process %d of sandbox %s did not end within %s of SIGKILL", p.pid, row.Name, timeout)
	}
	if _, err := c.again(ctx, row); err != nil {
		return gone(err)
	}
	// A killed runtime leaves its sockets; whoever starts it now takes care of them.
	lock, err := launch.AcquireLock(c.home.run(), row.Name)
	if err != nil {
		return nil
	}
	defer func() { _ = lock.Release() }()
	return wrap(ErrIO, c.home.removeSockets(row.Name))
}

// awaitProcess returns the runtime of a sandbox, nil if it does not run. One that is
// about to start is waited for.
func (c *catalog) awaitProcess(ctx context.Context, row store.Sandbox, timeout time.Duration) (*process, error) {
	deadline := time.Now().Add(timeout)
	for live(row.Status) {
		p, err := c.process(ctx, row)
		if err != nil || p != nil {
			return p, err
		}
		if time.Now().After(deadline) {
			return nil, fail(ErrSandboxStillRunning, "sandbox still running: %s is being started by another process", row.Name)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
		if row, err = c.again(ctx, row); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return cancelled(ctx)
	}
}

// mark records that the sandbox is meant to end, so that its death is no crash.
func (c *catalog) mark(ctx context.Context, row store.Sandbox) error {
	_, err := c.store.SetStatus(ctx, row.ID, store.Draining, store.Running, store.Paused)
	return wrap(ErrInternal, err)
}

// askPatience is how long the agent may take to answer before the runtime is told to end
// by a signal, which does the same.
const askPatience = 2 * time.Second

// ask sends the guest the request to shut down and reports whether it got through.
func (c *catalog) ask(ctx context.Context, row store.Sandbox, agent *client.Client) bool {
	if agent != nil {
		return agent.Shutdown(ctx) == nil
	}
	agent, err := connectAgent(ctx, c.home, row.Name, client.Options{HandshakeTimeout: askPatience})
	if err != nil {
		return false
	}
	defer func() { _ = agent.Close() }()
	return agent.Shutdown(ctx) == nil
}

// RequestStop asks the guest to shut down and returns.
func (h *SandboxHandle) RequestStop(ctx context.Context) error {
	return h.request(ctx, func(c *catalog, row store.Sandbox, p *process) error {
		if c.ask(ctx, row, nil) {
			return nil
		}
		return p.signal(syscall.SIGTERM)
	})
}

// RequestKill kills the sandbox and returns.
func (h *SandboxHandle) RequestKill(ctx context.Context) error {
	return h.request(ctx, func(_ *catalog, _ store.Sandbox, p *process) error { return p.signal(killSignal) })
}

// RequestDrain asks the runtime to finish and returns.
func (h *SandboxHandle) RequestDrain(ctx context.Context) error {
	return h.request(ctx, func(_ *catalog, _ store.Sandbox, p *process) error { return p.signal(syscall.SIGUSR1) })
}

// request does something to a running sandbox that is meant to end it.
func (h *SandboxHandle) request(ctx context.Context, do func(*catalog, store.Sandbox, *process) error) error {
	return h.onCatalog(ctx, func(c *catalog, row store.Sandbox) error {
		p, err := c.process(ctx, row)
		if err != nil {
			return err
		}
		if p == nil {
			return fail(ErrSandboxNotRunning, "sandbox %s is not running", row.Name)
		}
		defer p.close()
		if err := c.mark(ctx, row); err != nil {
			return err
		}
		return do(c, row, p)
	})
}

// WaitUntilStopped returns when the sandbox has ended; the removal of an ephemeral one
// counts. It keeps the database closed while it waits.
func (h *SandboxHandle) WaitUntilStopped(ctx context.Context) (*SandboxStopResult, error) {
	last := &SandboxStopResult{Name: h.row.Name, Status: SandboxStatusStopped}
	for {
		var result *SandboxStopResult
		var p *process
		err := h.onCatalog(ctx, func(c *catalog, row store.Sandbox) (err error) {
			if live(row.Status) {
				p, err = c.process(ctx, row)
				return err
			}
			result, err = c.stopResult(ctx, row)
			if err == nil && row.Ephemeral { // its runtime is about to remove it
				last, result = result, nil
			}
			return err
		})
		if IsKind(err, ErrSandboxNotFound) {
			last.ObservedAt = time.Now()
			return last, nil
		}
		if err != nil || result != nil {
			return result, err
		}
		if p == nil {
			err = pause(ctx, 20*time.Millisecond) // it is being started, or has just ended
		} else {
			_, err = p.wait(ctx, time.Hour)
			p.close()
		}
		if err != nil {
			return nil, err
		}
	}
}

// stopResult tells how the last run of a sandbox ended.
func (c *catalog) stopResult(ctx context.Context, row store.Sandbox) (*SandboxStopResult, error) {
	r := &SandboxStopResult{Name: row.Name, Status: (&SandboxHandle{row: row}).Status(), ObservedAt: time.Now()}
	run, err := c.store.LastRun(ctx, row.ID)
	if errors.Is(err, store.ErrNotFound) {
		return r, nil
	}
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	if reason := string(run.Reason); reason != "" {
		r.Source = &reason
	}
	r.ExitCode = run.ExitCode
	return r, nil
}
