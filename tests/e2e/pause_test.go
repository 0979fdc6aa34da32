//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestPause has a guest count into a file of the host, which shows when it stands still.
func TestPause(t *testing.T) {
	ctx := within(t, 5*patience)
	dir := t.TempDir()
	name := newName(t)
	sb := createAs(t, name, msb.WithCPUs(2), bind("/count", dir, msb.MountOptions{}))
	counter, err := sb.ShellStream(ctx, "i=0; while :; do i=$((i+1)); echo $i > /count/new; mv /count/new /count/now; done", msb.WithExecUser("root"))
	require.NoError(t, err)
	defer func() { _ = counter.Close() }()
	count := func() int {
		t.Helper()
		b := onHost(t, filepath.Join(dir, "now"))
		n, err := strconv.Atoi(b)
		require.NoError(t, err)
		return n
	}
	eventually(t, "the guest counts", func() bool {
		matches, err := filepath.Glob(filepath.Join(dir, "now"))
		return err == nil && len(matches) == 1 && count() > 3
	})
	cat, err := sb.ExecStream(ctx, "cat", nil, msb.WithExecStdinPipe())
	require.NoError(t, err)
	in := cat.TakeStdin()

	assert.Equal(t, 0, cli(t, "pause", name).code)
	still := count()
	assert.Equal(t, msb.SandboxStatusPaused, status(t, name))
	assert.Contains(t, cli(t, "ls").stdout, "paused")
	r := cli(t, "exec", name, "--", "true")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "msb resume "+name)
	_, err = sb.Exec(ctx, "true", nil)
	assert.True(t, msb.IsKind(err, msb.ErrSandboxPaused), "%v", err)
	_, err = in.Write([]byte("waits\n"))
	require.NoError(t, err)
	time.Sleep(5 * time.Second)
	assert.Equal(t, still, count(), "it stands still")

	require.NoError(t, sb.Resume(ctx))
	before := time.Now().Unix()
	text := shell(t, sb, "date +%s")
	after := time.Now().Unix()
	guest, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, guest, before-1, "the clock has not stood still")
	assert.LessOrEqual(t, guest, after+1)
	require.NoError(t, in.Close())
	out, err := cat.Collect(ctx)
	require.NoError(t, err)
	assert.Equal(t, "waits\n", out.Stdout())
	eventually(t, "the guest counts on", func() bool { return count() > still })
	assert.Equal(t, msb.SandboxStatusRunning, status(t, name))
	assert.Empty(t, shell(t, sb, "dmesg | grep -iE 'stall|lockup|hung' || true"))

	require.NoError(t, sb.Pause(ctx))
	require.NoError(t, sb.Stop(ctx))
	end := ended(t, name)
	assert.Equal(t, msb.SandboxStatusStopped, end.Status)
	require.NotNil(t, end.Source)
	assert.Equal(t, "ShutdownRequested", *end.Source, "in good order")
	noTrace(t, name)

	// The same sandbox again: what is paused can be killed.
	h, err := msb.GetSandbox(ctx, name)
	require.NoError(t, err)
	again, err := h.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, again.Pause(ctx))
	require.NoError(t, again.Kill(context.WithoutCancel(ctx)))
	assert.Equal(t, msb.SandboxStatusStopped, status(t, name))
	noTrace(t, name)
}
