package microsandbox

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/launch"
)

// Sandbox is a running sandbox that this process is connected to. It is safe for
// concurrent use. Close it when done: that stops a sandbox which this handle created
// attached, and leaves any other running.
type Sandbox struct {
	name   string
	home   home
	client *client.Client  // nil if it ended before this process could connect
	proc   *launch.Process // nil unless this process started it
	owned  bool            // attached: ends with this handle

	mu       sync.Mutex
	spec     *spec // loaded when first needed; protected by mu
	released bool  // closed or detached; protected by mu
}

// Name is the sandbox's name.
func (s *Sandbox) Name() string { return s.name }

// agent returns the connection to the guest unless the handle was released.
func (s *Sandbox) agent() (*client.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.released:
		return nil, fail(ErrInvalidHandle, "sandbox handle is closed or detached")
	case s.client == nil:
		return nil, fail(ErrSandboxNotRunning, "sandbox %s is not running: its command has ended", s.name)
	}
	return s.client, nil
}

// config returns the persisted configuration.
func (s *Sandbox) config() (*spec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spec == nil {
		h, err := getSandbox(context.Background(), s.home, s.name)
		if err != nil {
			return nil, err
		}
		if s.spec, err = parseSpec(h.row.Config); err != nil {
			return nil, wrap(ErrInternal, err)
		}
	}
	return s.spec, nil
}

// DefaultShell is the shell of Shell, /bin/sh unless WithShell said otherwise.
func (s *Sandbox) DefaultShell() string {
	c, err := s.config()
	if err != nil || c.Runtime.Shell == "" {
		return defaultShell
	}
	return c.Runtime.Shell
}

// DefaultCommand is the effective ENTRYPOINT and CMD, or ErrNoDefaultCommand.
func (s *Sandbox) DefaultCommand() ([]string, error) {
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	argv := c.defaultCommand()
	if len(argv) == 0 || argv[0] == "" {
		return nil, fail(ErrNoDefaultCommand, "sandbox %s has neither an ENTRYPOINT nor a CMD: name the command to run", s.name)
	}
	return argv, nil
}

// CommandFor is the effective ENTRYPOINT followed by command, which stands in for CMD.
func (s *Sandbox) CommandFor(command ...string) ([]string, error) {
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	return slices.Concat(c.Runtime.Entrypoint, command), nil
}

// OwnsLifecycle reports whether the sandbox ends with this handle.
func (s *Sandbox) OwnsLifecycle() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return false, fail(ErrInvalidHandle, "sandbox handle is closed or detached")
	}
	return s.owned, nil
}

// OwnsLifecycleOrFalse is OwnsLifecycle without an error.
func (s *Sandbox) OwnsLifecycleOrFalse() bool {
	owns, _ := s.OwnsLifecycle()
	return owns
}

// SandboxPingResult is the answer to Ping.
type SandboxPingResult struct {
	Name    string
	Latency time.Duration // of the round trip to the guest
}

// SandboxTouchResult is the answer to Touch.
type SandboxTouchResult struct {
	Name        string
	ActivitySeq uint64 // strictly increasing
}

// Ping measures the round trip to the guest's agent. It is no activity.
func (s *Sandbox) Ping(ctx context.Context) (*SandboxPingResult, error) {
	c, err := s.agent()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := c.Ping(ctx); err != nil {
		return nil, agentError(err)
	}
	return &SandboxPingResult{Name: s.name, Latency: time.Since(begin)}, nil
}

// Touch restarts the idle timer.
func (s *Sandbox) Touch(ctx context.Context) (*SandboxTouchResult, error) {
	c, err := s.agent()
	if err != nil {
		return nil, err
	}
	seq, err := c.Touch(ctx)
	if err != nil {
		return nil, agentError(err)
	}
	return &SandboxTouchResult{Name: s.name, ActivitySeq: seq}, nil
}

// handle is the catalogue's view of the sandbox.
func (s *Sandbox) handle(ctx context.Context) (*SandboxHandle, error) {
	return getSandbox(ctx, s.home, s.name)
}

// Ports lists the published ports of the running sandbox, with those that the host has
// chosen where that was left to it.
func (s *Sandbox) Ports(ctx context.Context) ([]PortBinding, error) {
	h, err := s.handle(ctx)
	if err != nil {
		return nil, gone(err)
	}
	c, err := h.EffectiveConfig()
	if err != nil {
		return nil, err
	}
	return c.PortBindings, nil
}

// Stop asks the guest to shut down, waits, and kills it after the timeout.
func (s *Sandbox) Stop(ctx context.Context, opts ...StopOption) error {
	c, err := s.agent()
	if err != nil && !IsKind(err, ErrSandboxNotRunning) {
		return err
	}
	h, err := s.handle(ctx)
	if err != nil {
		return gone(err)
	}
	return h.stop(ctx, c, stopOptions(opts))
}

// Kill ends the sandbox at once; what was not written is lost.
func (s *Sandbox) Kill(ctx context.Context, opts ...KillOption) error {
	h, err := s.handle(ctx)
	if err != nil {
		return gone(err)
	}
	return h.Kill(ctx, opts...)
}

// RequestStop asks the guest to shut down and returns.
func (s *Sandbox) RequestStop(ctx context.Context) error {
	h, err := s.handle(ctx)
	if err != nil {
		return err
	}
	return h.RequestStop(ctx)
}

// RequestKill kills the sandbox and returns.
func (s *Sandbox) RequestKill(ctx context.Context) error {
	h, err := s.handle(ctx)
	if err != nil {
		return err
	}
	return h.RequestKill(ctx)
}

// RequestDrain asks the runtime to finish and returns.
func (s *Sandbox) RequestDrain(ctx context.Context) error {
	h, err := s.handle(ctx)
	if err != nil {
		return err
	}
	return h.RequestDrain(ctx)
}

// WaitUntilStopped returns when the sandbox has ended.
func (s *Sandbox) WaitUntilStopped(ctx context.Context) (*SandboxStopResult, error) {
	h, err := s.handle(ctx)
	if IsKind(err, ErrSandboxNotFound) {
		return &SandboxStopResult{Name: s.name, Status: SandboxStatusStopped, ObservedAt: time.Now()}, nil
	}
	if err != nil {
		return nil, err
	}
	return h.WaitUntilStopped(ctx)
}

// Logs returns what commands, and on request the system, printed.
func (s *Sandbox) Logs(ctx context.Context, o LogOptions) ([]LogEntry, error) {
	return readLogs(ctx, s.home.logs(s.name), o)
}

// LogStream delivers log entries one by one.
func (s *Sandbox) LogStream(_ context.Context, o LogStreamOptions) (*LogStreamHandle, error) {
	return openLogStream(s.home.logs(s.name), o)
}

// release marks the handle as used up.
func (s *Sandbox) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return fail(ErrInvalidHandle, "sandbox handle is closed or detached")
	}
	s.released = true
	return nil
}

func (s *Sandbox) disconnect() error {
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

// Detach releases the handle without stopping the sandbox, which then survives this
// process.
func (s *Sandbox) Detach(context.Context) error {
	if err := s.release(); err != nil {
		return err
	}
	var err error
	if s.proc != nil {
		err = s.proc.Detach()
	}
	return wrap(ErrIO, errors.Join(err, s.disconnect()))
}

// closeGrace is how long Close waits for a sandbox it owns to shut down: longer than the
// runtime gives the guest.
const closeGrace = 12 * time.Second

// Close releases the handle and stops the sandbox if the handle owns it. A second call
// is ErrInvalidHandle.
func (s *Sandbox) Close() error {
	if err := s.release(); err != nil {
		return err
	}
	err := s.disconnect()
	if s.proc == nil || !s.owned {
		return wrap(ErrIO, err)
	}
	err = errors.Join(err, s.proc.Close())
	select {
	case <-s.proc.Exited():
		return wrap(ErrIO, err)
	case <-time.After(closeGrace):
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	h, lookErr := s.handle(ctx)
	if lookErr == nil {
		lookErr = h.Kill(ctx)
	}
	return wrap(ErrIO, errors.Join(err, gone(lookErr)))
}

// ConnectSandbox connects to a running sandbox by its name alone, without a look into
// the catalogue; it is the fastest way to Exec. The handle does not own the sandbox.
func ConnectSandbox(ctx context.Context, name string) (*Sandbox, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	if err := h.checkBackend(); err != nil {
		return nil, err
	}
	c, err := connectAgent(ctx, h, name, client.Options{})
	if err != nil {
		return nil, err
	}
	return &Sandbox{name: name, home: h, client: c}, nil
}

var errNoAgentSocket = errors.New("it has no agent socket: it is not there, is being started or has just ended")

// connectAgent tries each place where the agent socket may be.
func connectAgent(ctx context.Context, h home, name string, o client.Options) (*client.Client, error) {
	last := errNoAgentSocket
	for _, path := range launch.SocketCandidates(h.run(), h.sandboxes(), name) {
		c, err := client.Dial(ctx, path, o)
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil:
			return nil, cancelled(ctx)
		case !errors.Is(err, fs.ErrNotExist):
			last = err
		}
	}
	return nil, &Error{Kind: ErrSandboxNotRunning, Message: "sandbox " + name + " is not running", Cause: last}
}
