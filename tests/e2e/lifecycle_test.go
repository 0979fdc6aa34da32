//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

func listed(t *testing.T, opts ...msb.SandboxListOption) []string {
	t.Helper()
	page, err := msb.ListSandboxesWith(within(t, patience), append(opts, msb.WithListLimit(1000))...)
	require.NoError(t, err)
	require.Nil(t, page.NextCursor)
	names := []string{}
	for _, h := range page.Sandboxes {
		names = append(names, h.Name())
		assert.NotEmpty(t, h.Status())
		assert.NotEmpty(t, h.ConfigJSON())
		assert.False(t, h.CreatedAt().IsZero())
	}
	return names
}

// TestLife follows one sandbox from its creation to its removal.
func TestLife(t *testing.T) {
	ctx := within(t, 5*patience)
	name := newName(t)
	_, err := msb.GetSandbox(ctx, name)
	require.True(t, msb.IsKind(err, msb.ErrSandboxNotFound), "%v", err)

	sb := createAs(t, name, msb.WithLabels(map[string]string{"suite": "life", "tier": "web"}))
	assert.Equal(t, name, sb.Name())
	assert.Contains(t, listed(t), name)
	assert.Equal(t, []string{name}, listed(t, msb.WithListLabels(map[string]string{"suite": "life", "tier": "web"})))
	assert.Empty(t, listed(t, msb.WithListLabels(map[string]string{"suite": "life", "tier": "job"})))
	owns, err := sb.OwnsLifecycle()
	require.NoError(t, err)
	assert.True(t, owns)

	ping, err := sb.Ping(ctx)
	require.NoError(t, err)
	assert.Equal(t, name, ping.Name)
	one, err := sb.Touch(ctx)
	require.NoError(t, err)
	two, err := sb.Touch(ctx)
	require.NoError(t, err)
	assert.Positive(t, one.ActivitySeq)
	assert.Greater(t, two.ActivitySeq, one.ActivitySeq)

	_, err = msb.CreateSandbox(ctx, name, msb.WithImage("mini"))
	assert.True(t, msb.IsKind(err, msb.ErrSandboxAlreadyExists), "%v", err)
	assert.True(t, msb.IsKind(msb.RemoveSandbox(ctx, name), msb.ErrSandboxStillRunning))
	assert.Equal(t, "unharmed", shell(t, sb, "echo unharmed"))

	require.NoError(t, sb.Stop(ctx))
	require.NoError(t, sb.Close())
	assert.True(t, msb.IsKind(sb.Close(), msb.ErrInvalidHandle))
	_, err = sb.Exec(ctx, "true", nil)
	assert.True(t, msb.IsKind(err, msb.ErrInvalidHandle), "%v", err)
	assert.Equal(t, msb.SandboxStatusStopped, status(t, name))
	noTrace(t, name)

	h, err := msb.GetSandbox(ctx, name)
	require.NoError(t, err)
	_, err = h.Ping(ctx)
	assert.True(t, msb.IsKind(err, msb.ErrSandboxNotRunning), "%v", err)
	_, err = h.Touch(ctx)
	assert.True(t, msb.IsKind(err, msb.ErrSandboxNotRunning), "%v", err)
	assert.Equal(t, msb.SandboxStatusStopped, status(t, name), "a question starts nothing")

	sb, err = h.Start(ctx)
	require.NoError(t, err)
	assert.Equal(t, "again", shell(t, sb, "echo again"))
	require.NoError(t, h.Stop(ctx))
	require.NoError(t, h.Kill(ctx), "of a stopped one is no error")
	_ = sb.Close()
	require.NoError(t, h.Remove(ctx))
	gone(t, name)
	assert.NotContains(t, listed(t), name)
}

func TestStopIsOrderly(t *testing.T) {
	sb := create(t)
	done := make(chan error, 1)
	go func() { done <- sb.RequestStop(within(t, patience)) }()
	r, err := sb.WaitUntilStopped(within(t, patience))
	require.NoError(t, err)
	require.NoError(t, <-done)
	assert.Equal(t, msb.SandboxStatusStopped, r.Status)
	assert.False(t, r.ObservedAt.IsZero())
	require.NotNil(t, r.ExitCode)
	assert.Zero(t, *r.ExitCode, "the runtime's own")
	require.NotNil(t, r.Source)
	assert.Equal(t, "ShutdownRequested", *r.Source)
}

func TestDrain(t *testing.T) {
	sb := create(t)
	require.NoError(t, sb.RequestDrain(within(t, patience)))
	r := ended(t, sb.Name())
	assert.Equal(t, msb.SandboxStatusStopped, r.Status)
	require.NotNil(t, r.Source)
	assert.Equal(t, "DrainRequested", *r.Source)
}

func TestReplace(t *testing.T) {
	ctx := within(t, 3*patience)
	sb := create(t)
	require.NoError(t, sb.FS().WriteString(ctx, "/mark", "old"))
	for _, o := range []msb.SandboxOption{msb.WithReplace(), msb.WithReplaceWithTimeout(0)} {
		timed(t, patience/2, func(ctx context.Context) {
			fresh, err := msb.CreateSandbox(ctx, sb.Name(), msb.WithImage("mini"), o)
			require.NoError(t, err)
			t.Cleanup(func() { _ = fresh.Kill(context.Background()) })
			old, err := fresh.FS().Exists(ctx, "/mark")
			require.NoError(t, err)
			assert.False(t, old)
			require.NoError(t, fresh.FS().WriteString(ctx, "/mark", "old"))
		})
		assert.Len(t, runtimes(t, sb.Name()), 1)
	}
}

func TestParentDies(t *testing.T) {
	for mode, end := range map[string]func(p *os.Process) error{
		helperHold: (*os.Process).Kill,
		helperExit: func(*os.Process) error { return nil },
	} {
		t.Run(mode, func(t *testing.T) {
			name := newName(t)
			cmd := startHelper(t, mode, name)
			require.NoError(t, end(cmd.Process))
			_ = cmd.Wait()
			r := ended(t, name)
			assert.Equal(t, msb.SandboxStatusStopped, r.Status)
			eventually(t, "the runtime ends", func() bool { return len(runtimes(t, name)) == 0 })
			noTrace(t, name)
		})
	}
}

func TestDetached(t *testing.T) {
	name := newName(t)
	cmd := startHelper(t, helperDetach, name)
	require.NoError(t, cmd.Wait())
	time.Sleep(time.Second)
	h, err := msb.GetSandbox(within(t, patience), name)
	require.NoError(t, err)
	assert.Equal(t, msb.SandboxStatusRunning, h.Status())
	sb, err := h.Connect(within(t, patience))
	require.NoError(t, err)
	assert.False(t, sb.OwnsLifecycleOrFalse())
	assert.Equal(t, "still-alive", shell(t, sb, "echo still-alive"))
	require.NoError(t, sb.Close())
	assert.Equal(t, msb.SandboxStatusRunning, status(t, name), "a handle that does not own it leaves it alone")
	require.NoError(t, h.Stop(within(t, patience)))
	noTrace(t, name)
}

func TestEphemeral(t *testing.T) {
	sb := create(t, msb.WithEphemeral(true))
	require.DirExists(t, homePath("sandboxes", sb.Name()))
	require.NoError(t, sb.Stop(within(t, patience)))
	gone(t, sb.Name())
}

func TestTwoAtOnce(t *testing.T) {
	one := create(t, msb.WithHostname("one"))
	two := create(t, msb.WithHostname("two"))
	ctx := within(t, patience)
	for sb, want := range map[*msb.Sandbox]string{one: "one", two: "two"} {
		require.NoError(t, sb.FS().WriteString(ctx, "/who", want))
	}
	for sb, want := range map[*msb.Sandbox]string{one: "one", two: "two"} {
		assert.Equal(t, want+" "+want, shell(t, sb, "echo $(hostname) $(cat /who)"))
	}
	require.NoError(t, one.Kill(ctx))
	assert.Equal(t, "two", shell(t, two, "hostname"))
}

func TestNameLimits(t *testing.T) {
	long := strings.Repeat("n", 128)
	t.Cleanup(func() { cleanUp(t, long) })
	sb := createAs(t, long)
	assert.LessOrEqual(t, len(shell(t, sb, "hostname")), 64)
	for _, name := range []string{long + "n", "", "-x", "a/b", "../x", "a b", "ü"} {
		_, err := msb.CreateSandbox(within(t, patience), name, msb.WithImage("mini"))
		assert.True(t, msb.IsKind(err, msb.ErrInvalidConfig), "%q: %v", name, err)
	}
}

func TestTimeouts(t *testing.T) {
	idle := create(t, msb.WithIdleTimeout(3*time.Second))
	short := create(t, msb.WithMaxDuration(20*time.Second))
	begin := time.Now()
	r := ended(t, idle.Name())
	assert.Equal(t, msb.SandboxStatusStopped, r.Status)
	assert.Equal(t, "IdleTimeout", *r.Source)
	sb, err := msb.StartSandbox(within(t, patience), idle.Name())
	require.NoError(t, err, "it can be started again")
	assert.Equal(t, "awake", shell(t, sb, "echo awake"))
	h, err := sb.ExecStream(within(t, patience), "sleep", []string{"7"})
	require.NoError(t, err)
	code, err := h.Wait(within(t, patience))
	require.NoError(t, err, "a running command is activity")
	assert.Zero(t, code)
	require.NoError(t, sb.Stop(within(t, patience)))

	r = ended(t, short.Name())
	assert.Equal(t, msb.SandboxStatusStopped, r.Status)
	assert.Equal(t, "MaxDurationExceeded", *r.Source)
	assert.Less(t, time.Since(begin), patience)
}

// TestSelfRuntime starts the runtime from this test binary, as a Go program does where no
// msb is installed.
func TestSelfRuntime(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	t.Setenv("MSB_PATH", "")
	t.Setenv("PATH", t.TempDir())
	sb := create(t)
	assert.Equal(t, "self-contained", shell(t, sb, "echo self-contained"))
	pids := runtimes(t, sb.Name())
	require.Len(t, pids, 1)
	exe, err := filepath.EvalSymlinks(filepath.Join("/proc", strconv.Itoa(pids[0]), "exe"))
	require.NoError(t, err)
	assert.Equal(t, self, exe)
	require.NoError(t, sb.Stop(within(t, patience)))
	noTrace(t, sb.Name())
}
