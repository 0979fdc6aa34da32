package runtime

import (
	"context"
	"errors"
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

// ask sends an operation to the control socket.
func (p *process) ask(op string) string {
	p.home.t.Helper()
	return strings.TrimSpace(askControl(p.home.t, launch.ControlSocket(p.home.config.AgentSock), `{"op":"`+op+`"}`+"\n"))
}

const granted = `{"ok":true}`

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{})
	c := p.dial()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cat, err := c.Exec(ctx, client.Command{Name: "cat"})
	require.NoError(t, err)
	assert.Equal(t, granted, p.ask("resume"), "it runs")

	for range 2 {
		assert.Equal(t, granted, p.ask("pause"))
		row, run := h.rows()
		assert.Equal(t, store.Running, row.Status, "official programs cannot stop what is Paused")
		assert.True(t, run.Active)
		assert.Equal(t, p.PID(), launch.PausedBy(h.config.AgentSock))
	}
	refused := func(err error) {
		t.Helper()
		var remote *client.RemoteError
		require.ErrorAs(t, err, &remote)
		assert.Equal(t, client.KindPaused, remote.Kind)
		assert.Equal(t, "sandbox box is paused: resume it with: msb resume box", remote.Message)
	}
	_, err = c.ExecCollect(ctx, client.Command{Name: "echo"}, nil)
	refused(err)
	other := p.dial()
	_, err = other.ReadFile(ctx, "/etc/hostname")
	refused(err)
	refused(other.Ping(ctx))
	_, err = cat.Write([]byte("while it slept"))
	require.NoError(t, err)

	for range 2 {
		assert.Equal(t, granted, p.ask("resume"))
		assert.Zero(t, launch.PausedBy(h.config.AgentSock))
	}
	event, err := cat.Recv(ctx)
	require.NoError(t, err)
	assert.Equal(t, "while it slept", string(event.Data), "what was under way goes on")
	assert.Equal(t, "hello\n", p.do(c, "echo hello"))
	assert.Equal(t, "hello\n", p.do(other, "echo hello"))
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	h.assertNothingLeft()
}

// Whatever ends a paused sandbox ends it as if it ran.
func TestEndsOfPausedSandboxes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(*process, *client.Client) error
		reason store.Reason
		code   int
	}{
		"asked":   {func(_ *process, c *client.Client) error { return shutdown(c) }, store.ShutdownRequested, 0},
		"SIGTERM": {func(p *process, _ *client.Client) error { return p.Signal(syscall.SIGTERM) }, store.Signal, 0},
		"SIGUSR1": {func(p *process, _ *client.Client) error { return p.Signal(syscall.SIGUSR1) }, store.DrainRequested, 0},
		"twice": {func(p *process, _ *client.Client) error {
			return errors.Join(p.Signal(syscall.SIGTERM), p.Signal(syscall.SIGTERM))
		}, store.Signal, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			p := h.spawn(fakePlan{})
			conn := p.dial()
			require.Equal(t, granted, p.ask("pause"))
			require.NoError(t, c.end(p, conn))
			assert.Equal(t, c.code, p.code())
			row, run := h.rows()
			assert.Equal(t, store.Stopped, row.Status)
			assert.Equal(t, c.reason, run.Reason)
			h.assertNothingLeft()
		})
	}
}

func TestPausesThatCannotBe(t *testing.T) {
	t.Parallel()
	t.Run("the guest never comes up", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		p := h.spawn(fakePlan{NeverReady: true})
		require.Eventually(t, func() bool {
			_, err := os.Stat(launch.ControlSocket(h.config.AgentSock))
			return err == nil
		}, patience, 10*time.Millisecond)
		assert.Contains(t, p.ask("pause"), "not ready yet")
		require.NoError(t, p.Signal(syscall.SIGTERM))
		p.code()
	})
	t.Run("it is being stopped", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		h.env = append(h.env, "MSB_SHUTDOWN_FLUSH_TIMEOUT_MS=60000")
		p := h.spawn(fakePlan{IgnoreStop: true})
		p.dial()
		require.NoError(t, p.Signal(syscall.SIGTERM))
		require.Eventually(t, func() bool { return strings.Contains(h.log("runtime.log"), "the sandbox ends") }, patience, 10*time.Millisecond)
		assert.Contains(t, p.ask("pause"), "being stopped")
		require.NoError(t, p.Signal(syscall.SIGTERM))
		assert.Equal(t, 0, p.code())
	})
	t.Run("nobody would know", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		p := h.spawn(fakePlan{})
		c := p.dial()
		link := h.config.AgentSock + ".paused"
		require.NoError(t, os.MkdirAll(filepath.Join(link, "in the way"), 0o700))
		assert.Contains(t, p.ask("pause"), "record the pause")
		assert.Equal(t, "hello\n", p.do(c, "echo hello"), "it runs on")
		require.NoError(t, os.RemoveAll(link))
		require.NoError(t, shutdown(c))
		assert.Equal(t, 0, p.code())
	})
	t.Run("a mark of a runtime that was killed", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		require.NoError(t, os.MkdirAll(filepath.Dir(h.config.AgentSock), 0o700))
		require.NoError(t, launch.MarkPaused(h.config.AgentSock, os.Getpid()))
		p := h.spawn(fakePlan{})
		c := p.dial()
		assert.Zero(t, launch.PausedBy(h.config.AgentSock))
		require.NoError(t, shutdown(c))
		assert.Equal(t, 0, p.code())
		h.assertNothingLeft()
	})
	t.Run("other processors meanwhile", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		h.options = func(o *launch.Options) { o.MaxVCPUs = 4 }
		p := h.spawn(fakePlan{})
		c := p.dial()
		require.Equal(t, granted, p.ask("pause"))
		assert.Contains(t, p.ask("cpu_state"), "paused")
		require.NoError(t, shutdown(c))
		assert.Equal(t, 0, p.code())
	})
}

// A pause does not count as idle time, and a resumed sandbox still ends by it.
func TestIdleTimeoutWaitsForPausedSandboxes(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.Lifecycle.IdleTimeoutSecs = pointer(uint64(3))
	p := h.spawn(fakePlan{})
	c := p.dial()
	require.Equal(t, "hello\n", p.do(c, "echo hello"))
	require.Equal(t, granted, p.ask("pause"))
	time.Sleep(4 * time.Second)
	_, run := h.rows()
	assert.True(t, run.Active)
	assert.Equal(t, granted, p.ask("resume"))
	assert.Equal(t, 0, p.code())
	_, run = h.rows()
	assert.Equal(t, store.IdleTimeout, run.Reason)
}
