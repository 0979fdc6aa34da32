package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// How a sandbox that has been ready ends, and what is recorded of it.
func TestEndings(t *testing.T) {
	t.Parallel()
	command := func(line string) func(*home) {
		return func(h *home) {
			cmd, args := words(line)
			h.config.Startup = &launch.Startup{Cmd: cmd, Args: args}
		}
	}
	crash := func(how string) func(*testing.T, *process, *client.Client) {
		return func(_ *testing.T, p *process, c *client.Client) { p.begin(c, "crash "+how) }
	}
	signals := func(all ...syscall.Signal) func(*testing.T, *process, *client.Client) {
		return func(t *testing.T, p *process, _ *client.Client) {
			for _, s := range all {
				require.NoError(t, p.Signal(s))
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	ask := func(t *testing.T, _ *process, c *client.Client) { require.NoError(t, shutdown(c)) }
	quick := func(h *home) { h.env = append(h.env, "MSB_SHUTDOWN_FLUSH_TIMEOUT_MS=100") }
	inBackground := func(h *home) { h.options = detached }
	handoff := func(h *home) {
		h.config.Bootstrap.HandoffInit = &handoffInit
	}
	for name, c := range map[string]struct {
		prepare []func(*home)
		plan    fakePlan
		act     func(*testing.T, *process, *client.Client)
		reason  store.Reason
		code    int
		status  store.Status
		exit    int // in the run row
	}{
		"guest powers off":            {nil, fakePlan{}, crash("poweroff"), store.Completed, 0, store.Stopped, 0},
		"guest powers off in silence": {nil, fakePlan{}, crash("silent poweroff"), store.Completed, 0, store.Stopped, 0},
		"guest reboots in good order": {nil, fakePlan{}, crash("reboot"), store.Completed, 0, store.Stopped, 0},
		"handed-off guest reboots":    {[]func(*home){handoff}, fakePlan{}, crash("reset"), store.Completed, 0, store.Stopped, 0},
		"agent leaves, guest stays":   {[]func(*home){quick}, fakePlan{}, crash("goodbye"), store.Completed, 0, store.Stopped, 0},
		"client asks":                 {nil, fakePlan{}, ask, store.ShutdownRequested, 0, store.Stopped, 0},
		"client asks, guest resets":   {nil, fakePlan{ResetsAtStop: true}, ask, store.ShutdownRequested, 0, store.Stopped, 0},
		"client asks, agent ignores":  {[]func(*home){quick}, fakePlan{IgnoreStop: true}, ask, store.ShutdownRequested, 0, store.Stopped, 0},
		"client asks, guest hangs":    {[]func(*home){quick}, fakePlan{HangsAtStop: true}, ask, store.ShutdownRequested, 0, store.Stopped, 0},
		"guest writes for long":       {nil, fakePlan{FlushMS: 5500}, ask, store.ShutdownRequested, 0, store.Stopped, 0},
		"guest writes, then hangs":    {nil, fakePlan{FlushMS: 5500, HangsAtStop: true}, ask, store.ShutdownRequested, 0, store.Stopped, 0},
		"SIGTERM":                     {nil, fakePlan{}, signals(syscall.SIGTERM), store.Signal, 0, store.Stopped, 0},
		"SIGTERM twice":               {nil, fakePlan{IgnoreStop: true}, signals(syscall.SIGTERM, syscall.SIGTERM), store.Signal, 0, store.Stopped, 0},
		"SIGUSR1":                     {nil, fakePlan{}, signals(syscall.SIGUSR1), store.DrainRequested, 0, store.Stopped, 0},
		"SIGINT when detached":        {[]func(*home){inBackground}, fakePlan{}, signals(syscall.SIGINT), store.Signal, 0, store.Stopped, 0},
		"SIGHUP, SIGINT are ignored when attached": {
			nil, fakePlan{}, signals(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1), store.DrainRequested, 0, store.Stopped, 0,
		},
		"parent goes": {
			nil, fakePlan{}, func(t *testing.T, p *process, _ *client.Client) { require.NoError(t, p.Close()) },
			store.Signal, 0, store.Stopped, 0,
		},
		"parent goes, guest hangs": {
			[]func(*home){quick}, fakePlan{IgnoreStop: true}, func(t *testing.T, p *process, _ *client.Client) { require.NoError(t, p.Close()) },
			store.Signal, 0, store.Stopped, 0,
		},
		"parent detaches, later asks": {
			nil, fakePlan{}, func(t *testing.T, p *process, c *client.Client) {
				require.NoError(t, p.Detach())
				time.Sleep(100 * time.Millisecond)
				assert.Nil(t, p.State(), "it goes on")
				ask(t, p, c)
			}, store.ShutdownRequested, 0, store.Stopped, 0,
		},
		"idle": {
			[]func(*home){func(h *home) { h.config.Lifecycle.IdleTimeoutSecs = pointer(uint64(1)) }}, fakePlan{},
			func(*testing.T, *process, *client.Client) {}, store.IdleTimeout, 0, store.Stopped, 0,
		},
		"too old": {
			[]func(*home){func(h *home) { h.config.Lifecycle.MaxDurationSecs = pointer(uint64(1)) }}, fakePlan{},
			func(t *testing.T, p *process, c *client.Client) { p.begin(c, "sleep") }, store.MaxDurationExceeded, 0, store.Stopped, 0,
		},
		"command succeeds":    {[]func(*home){command("exit 0")}, fakePlan{}, nil, store.Completed, 0, store.Stopped, 0},
		"command fails":       {[]func(*home){command("exit 42")}, fakePlan{}, nil, store.Failed, 1, store.Stopped, 42},
		"command is missing":  {[]func(*home){command("no-such-command")}, fakePlan{}, nil, store.Failed, 1, store.Stopped, 127},
		"guest resets":        {nil, fakePlan{}, crash("reset"), store.Failed, 1, store.Crashed, 1},
		"guest triple faults": {nil, fakePlan{}, crash("triple fault"), store.Failed, 1, store.Crashed, 1},
		"agent's stream cut":  {[]func(*home){quick}, fakePlan{}, crash("cut"), store.Failed, 1, store.Crashed, 1},
		"hostile frame":       {[]func(*home){quick}, fakePlan{}, crash("oversized"), store.Failed, 1, store.Crashed, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			for _, f := range c.prepare {
				f(h)
			}
			began := time.Now()
			p := h.spawn(c.plan)
			if c.act != nil {
				c.act(t, p, p.dial())
			}
			assert.Equal(t, c.code, p.code())
			box, run := h.rows()
			assert.Equal(t, c.reason, run.Reason)
			assert.Equal(t, c.status, box.Status)
			require.NotNil(t, run.ExitCode)
			assert.Equal(t, c.exit, *run.ExitCode)
			assert.False(t, run.Active)
			h.assertNothingLeft()
			log := h.execLog()
			assert.Equal(t, loggedStart, log[:len(loggedStart)])
			assert.Equal(t, loggedEnd, log[len(log)-len(loggedEnd):])
			assert.NoFileExists(t, filepath.Join(h.config.LogDir, "boot-error.json"))
			if c.reason == store.IdleTimeout || c.reason == store.MaxDurationExceeded {
				assert.Greater(t, time.Since(began), time.Second)
			}
			if c.plan.FlushMS > 0 {
				assert.Contains(t, h.log("runtime.log"), "it gets more time")
				assert.Equal(t, c.plan.HangsAtStop, strings.Contains(h.log("runtime.log"), "did not go in time"))
			}
			if name == "guest resets" {
				assert.Contains(t, h.log("runtime.log"), "guest console: BUG: unable to handle page fault")
			}
		})
	}
}

// A command that runs, and whatever a client does, keep a sandbox from being idle.
func TestIdleWaitsForTheIdle(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.Lifecycle.IdleTimeoutSecs = pointer(uint64(4)) // much more than a busy machine takes for a turn
	p := h.spawn(fakePlan{})
	c := p.dial()
	for range 22 {
		time.Sleep(200 * time.Millisecond)
		_, err := c.Touch(t.Context())
		require.NoError(t, err)
	}
	assert.Nil(t, p.State(), "touched in time")
	e, err := c.Exec(t.Context(), client.Command{Name: "sleep"})
	require.NoError(t, err)
	time.Sleep(4300 * time.Millisecond)
	assert.Nil(t, p.State(), "a command runs")
	require.NoError(t, e.Kill(t.Context()))
	_, _ = e.Wait(t.Context())
	assert.Equal(t, 0, p.code())
	_, run := h.rows()
	assert.Equal(t, store.IdleTimeout, run.Reason)
}

// Rows that are gone do not keep a sandbox from ending.
func TestRowsRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{})
	c := p.dial()
	db := h.open()
	_, err := db.DeleteSandbox(t.Context(), h.id)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	h.assertNothingLeft()
	assert.NotContains(t, h.log("runtime.log"), " ERROR ")
}

// A socket that somebody else put in the way is left to them.
func TestForeignSocketStays(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{})
	c := p.dial()
	require.NoError(t, os.Remove(h.config.AgentSock))
	require.NoError(t, os.WriteFile(h.config.AgentSock, nil, 0o600))
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	assert.FileExists(t, h.config.AgentSock)
}
