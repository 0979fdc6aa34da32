//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestSoft is what must work where KVM emulates the guest's kernel. It is one sandbox,
// because each takes its time.
func TestSoft(t *testing.T) {
	ctx := within(t, 10*patience)
	name := newName(t)
	sb, err := msb.CreateSandbox(ctx, name, msb.WithImage("mini"))
	require.NoError(t, err)
	out, err := sb.Exec(ctx, "echo", []string{"hello"})
	require.NoError(t, err)
	assert.Equal(t, "hello\n", out.Stdout())
	out, err = sb.Shell(ctx, "cat /proc/cpuinfo | grep -c processor; exit 42")
	require.NoError(t, err)
	assert.Equal(t, 42, out.ExitCode())
	assert.Equal(t, "1\n", out.Stdout())

	content := random(t, 5, 100_000)
	require.NoError(t, sb.FS().Write(ctx, "/file", content))
	got, err := sb.FS().Read(ctx, "/file")
	require.NoError(t, err)
	assert.Equal(t, content, got)

	h, err := sb.ExecStream(ctx, "cat", nil, msb.WithExecTTY(true), msb.WithExecStdinPipe())
	require.NoError(t, err)
	in := h.TakeStdin()
	_, err = in.Write([]byte("typed\n\x04"))
	require.NoError(t, err)
	out, err = h.Collect(ctx)
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(out.Stdout(), "typed\r\n"), "echo of the terminal, and cat")

	require.NoError(t, sb.Stop(ctx))
	r := ended(t, name)
	assert.Equal(t, msb.SandboxStatusStopped, r.Status)
	require.NotNil(t, r.ExitCode)
	assert.Zero(t, *r.ExitCode)
	noTrace(t, name)
}

func TestSoftRun(t *testing.T) {
	r := cliWith(t, strings.NewReader("through stdin"), "run", "-q", "mini", "--", "/bin/sh", "-c", "cat; exit 3")
	assert.Equal(t, 3, r.code)
	assert.Equal(t, "through stdin", r.stdout)
}
