package microsandbox

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/store"
)

// SandboxStatus is the state of a sandbox in the catalogue.
type SandboxStatus string

// Sandbox states.
const (
	SandboxStatusCreated  SandboxStatus = "created"
	SandboxStatusStarting SandboxStatus = "starting"
	SandboxStatusRunning  SandboxStatus = "running"
	SandboxStatusDraining SandboxStatus = "draining"
	SandboxStatusPaused   SandboxStatus = "paused"
	SandboxStatusStopped  SandboxStatus = "stopped"
	SandboxStatusCrashed  SandboxStatus = "crashed"
)

// SandboxHandle is a sandbox as the catalogue knows it. It does not change with the
// sandbox: see Refresh.
type SandboxHandle struct {
	home home
	row  store.Sandbox
}

// GetSandbox looks a sandbox up by name.
func GetSandbox(ctx context.Context, name string) (*SandboxHandle, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	return getSandbox(ctx, h, name)
}

func getSandbox(ctx context.Context, h home, name string) (*SandboxHandle, error) {
	c, row, err := find(ctx, h, name)
	if err != nil {
		return nil, err
	}
	c.close()
	return &SandboxHandle{home: h, row: row}, nil
}

// Name is the sandbox's name.
func (h *SandboxHandle) Name() string { return h.row.Name }

// Status is the state when the handle was made.
func (h *SandboxHandle) Status() SandboxStatus {
	return SandboxStatus(strings.ToLower(string(h.row.Status)))
}

// Live reports that the sandbox was running, or about to, when the handle was made.
func (h *SandboxHandle) Live() bool { return live(h.row.Status) }

// ConfigJSON is the persisted configuration, without values of secrets.
func (h *SandboxHandle) ConfigJSON() string { return withoutValues(h.row.Config) }

// ActiveConfigJSON is the configuration that the running machine uses, without values of
// secrets; empty if none runs.
func (h *SandboxHandle) ActiveConfigJSON() string {
	if !h.Live() {
		return ""
	}
	return withoutValues(h.row.ActiveConfig)
}

// CreatedAt is when the sandbox was created, zero if unknown.
func (h *SandboxHandle) CreatedAt() time.Time { return h.row.CreatedAt }

// UpdatedAt is when its catalogue entry last changed, zero if unknown.
func (h *SandboxHandle) UpdatedAt() time.Time { return h.row.UpdatedAt }

// Image is what the sandbox starts from, "-" if that is unknown.
func (h *SandboxHandle) Image() string {
	s, err := parseSpec(h.row.Config)
	if err != nil {
		return "-"
	}
	return s.Image.describe()
}

// Refresh looks the sandbox up again.
func (h *SandboxHandle) Refresh(ctx context.Context) (*SandboxHandle, error) {
	return getSandbox(ctx, h.home, h.row.Name)
}

// Connect connects to the running sandbox without owning it.
func (h *SandboxHandle) Connect(ctx context.Context) (*Sandbox, error) {
	if !h.Live() {
		return nil, fail(ErrSandboxNotRunning, "sandbox %s is not running: it is %s", h.row.Name, h.Status())
	}
	if h.Status() == SandboxStatusPaused {
		return nil, fail(ErrSandboxPaused, "sandbox %s is paused: resume it with: msb resume %s", h.row.Name, h.row.Name)
	}
	s, err := parseSpec(h.row.Config)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	c, err := connectAgent(ctx, h.home, h.row.Name, client.Options{})
	if err != nil {
		return nil, err
	}
	return &Sandbox{name: h.row.Name, home: h.home, client: c, spec: s}, nil
}

// Ping measures the round trip to the running sandbox's agent.
func (h *SandboxHandle) Ping(ctx context.Context) (*SandboxPingResult, error) {
	s, err := h.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	return s.Ping(ctx)
}

// Touch restarts the running sandbox's idle timer.
func (h *SandboxHandle) Touch(ctx context.Context) (*SandboxTouchResult, error) {
	s, err := h.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	return s.Touch(ctx)
}

// Logs returns what commands, and on request the system, printed.
func (h *SandboxHandle) Logs(ctx context.Context, o LogOptions) ([]LogEntry, error) {
	return readLogs(ctx, h.home.logs(h.row.Name), o)
}

// LogStream delivers log entries one by one.
func (h *SandboxHandle) LogStream(_ context.Context, o LogStreamOptions) (*LogStreamHandle, error) {
	return openLogStream(h.home.logs(h.row.Name), o)
}

// BootFailure is what the last start left behind if it failed, else nil.
func (h *SandboxHandle) BootFailure() *BootFailure { return readBootFailure(h.home.logs(h.row.Name)) }

// Remove deletes a sandbox that does not run, and everything it wrote.
func (h *SandboxHandle) Remove(ctx context.Context) error {
	c, err := openCatalog(ctx, h.home, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return notFound(h.row.Name)
	}
	if err != nil {
		return err
	}
	defer c.close()
	return c.remove(ctx, h.row)
}

// RemoveSandbox removes the sandbox of that name.
func RemoveSandbox(ctx context.Context, name string) error {
	h, err := openHome()
	if err != nil {
		return err
	}
	c, row, err := find(ctx, h, name)
	if err != nil {
		return err
	}
	defer c.close()
	return c.remove(ctx, row)
}

func (c *catalog) remove(ctx context.Context, row store.Sandbox) error {
	if _, err := c.removable(ctx, row); err != nil {
		return err
	}
	lock, err := c.home.lock(ctx, row.Name, func() error {
		_, err := c.removable(ctx, row)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }()
	fresh, err := c.removable(ctx, row)
	if err != nil {
		return err
	}
	return c.erase(ctx, fresh)
}

// removable looks at a sandbox that is to be removed.
func (c *catalog) removable(ctx context.Context, row store.Sandbox) (store.Sandbox, error) {
	fresh, err := c.again(ctx, row)
	if err == nil && live(fresh.Status) {
		err = fail(ErrSandboxStillRunning, "sandbox still running: %s", row.Name)
	}
	return fresh, err
}
