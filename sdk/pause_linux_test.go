package microsandbox

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

func TestPauseAndResume(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	require.NoError(t, sb.Resume(ctx), "it runs")
	require.NoError(t, sb.Pause(ctx))
	assert.Equal(t, SandboxStatusPaused, status(t, "a"))
	require.NoError(t, sb.Pause(ctx))

	h, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	assert.True(t, h.Live())
	assert.NotEmpty(t, h.ActiveConfigJSON())
	const text = "sandbox a is paused: resume it with: msb resume a"
	refused := func(err error) {
		t.Helper()
		assert.True(t, IsKind(err, ErrSandboxPaused), "%v", err)
		assert.EqualError(t, err, text)
	}
	_, err = sb.Exec(ctx, "echo", nil)
	refused(err)
	_, err = sb.ExecStream(ctx, "echo", nil)
	refused(err)
	_, err = sb.FS().ReadString(ctx, "/etc/hostname")
	refused(err)
	_, err = sb.Ping(ctx)
	refused(err)
	_, err = h.Connect(ctx)
	refused(err)
	_, err = h.Touch(ctx)
	refused(err)
	direct, err := ConnectSandbox(ctx, "a")
	require.NoError(t, err)
	_, err = direct.Exec(ctx, "echo", nil)
	refused(err)
	require.NoError(t, direct.Close())
	_, err = StartSandbox(ctx, "a")
	assert.True(t, IsKind(err, ErrSandboxStillRunning), "%v", err)
	assert.True(t, IsKind(h.Remove(ctx), ErrSandboxStillRunning))

	require.NoError(t, h.Resume(ctx))
	assert.Equal(t, SandboxStatusRunning, status(t, "a"))
	out, err := sb.Exec(ctx, "echo", []string{"hello"})
	require.NoError(t, err)
	assert.Equal(t, "hello\n", out.Stdout())

	require.NoError(t, sb.Pause(ctx))
	require.NoError(t, sb.Stop(ctx))
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))
	for _, err := range []error{sb.Pause(ctx), h.Resume(ctx)} {
		assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
		assert.EqualError(t, err, "sandbox a is not running: it is stopped")
	}
	require.NoError(t, h.Remove(ctx))
	assert.True(t, IsKind(h.Pause(ctx), ErrSandboxNotFound))
}

func TestEndsOfPausedSandboxes(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	paused := func(name string) *SandboxHandle {
		t.Helper()
		sb := create(t, name, WithDetached())
		require.NoError(t, sb.Pause(ctx))
		h, err := GetSandbox(ctx, name)
		require.NoError(t, err)
		assert.Equal(t, SandboxStatusPaused, h.Status())
		return h
	}
	require.NoError(t, paused("killed").Kill(ctx))
	assert.Equal(t, SandboxStatusStopped, status(t, "killed"))
	require.NoError(t, paused("drained").RequestDrain(ctx))
	h, err := GetSandbox(ctx, "drained")
	require.NoError(t, err)
	r, err := h.WaitUntilStopped(ctx)
	require.NoError(t, err)
	assert.Equal(t, "DrainRequested", value(r.Source))

	// A runtime that dies without a word has crashed, paused or not.
	h = paused("dead")
	c, err := openCatalog(ctx, h.home, false)
	require.NoError(t, err)
	p, err := c.process(ctx, h.row)
	c.close()
	require.NoError(t, err)
	require.NoError(t, p.signal(syscall.SIGKILL))
	_, err = h.WaitUntilStopped(ctx)
	require.NoError(t, err)
	p.close()
	assert.Equal(t, SandboxStatusCrashed, status(t, "dead"))
}
