//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestOfficialRuntime has our command and our sdk drive the runtime of microsandbox 0.6.18,
// with its kernel and its agent.
func TestOfficialRuntime(t *testing.T) {
	official, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	images := filepath.Join(t.TempDir(), "mini.tar")
	cli(t, "image", "save", "-q", "-o", images, "mini").ok(t)
	us := os.Getenv("MSB_PATH")
	at := newHome(t, us)
	t.Setenv("MSB_PATH", string(official))
	t.Setenv("MSB_HOME", at.home)
	at.runtime = string(official)

	at.run(t, "load", "-q", "-i", images)
	at.run(t, "volume", "create", "-q", "kept")
	at.run(t, "create", "-q", "--pull", "never", "-n", "theirs", "--root-disk", "256M", "-v", "kept:/data", "--idle-timeout", "10m", "--max-cpus", "2", "--max-memory", "1G", "mini")
	assert.Equal(t, "theirs", at.run(t, "ls", "-q"))
	assert.Equal(t, "6.12.99", at.run(t, "exec", "theirs", "--", "uname", "-r"), "their kernel")
	at.run(t, "cp", images, "theirs:/images")
	assert.Equal(t, "out", at.run(t, "exec", "theirs", "--", "sh", "-c", "echo out; cp /images /data/"))

	ctx := within(t, 8*patience)
	handle, err := msb.GetSandbox(ctx, "theirs")
	require.NoError(t, err)
	sb, err := handle.Connect(ctx)
	require.NoError(t, err)
	h, err := sb.ShellStream(ctx, "cat; exit 3", msb.WithExecStdinPipe())
	require.NoError(t, err)
	in := h.TakeStdin()
	_, err = in.Write([]byte("given"))
	require.NoError(t, err)
	require.NoError(t, in.Close())
	out, err := h.Collect(ctx)
	require.NoError(t, err)
	assert.Equal(t, []any{"given", 3}, []any{out.Stdout(), out.ExitCode()})
	want, err := os.ReadFile(images)
	require.NoError(t, err)
	got, err := sb.FS().Read(ctx, "/images")
	require.NoError(t, err)
	assert.Equal(t, sum(want), sum(got))
	m, err := sb.Metrics(ctx)
	require.NoError(t, err)
	assert.Equal(t, uint64(512<<20), m.MemoryLimitBytes)
	p, err := sb.Modify(ctx, msb.ModifyOptions{CPUs: 2, MemoryMiB: 768})
	require.NoError(t, err)
	require.Len(t, p.ResizeStatus, 2)
	assert.Equal(t, "2 and 768 MiB", p.ResizeStatus[0].Enforced+" and "+p.ResizeStatus[1].Enforced)
	eventually(t, "their guest has both", func() bool { return memoryTotal(t, sb) > 700 && shell(t, sb, "nproc") == "2" })
	require.NoError(t, sb.Stop(ctx))
	assert.Contains(t, at.run(t, "logs", "theirs"), "out")

	at.run(t, "snapshot", "create", "base", "--from", "theirs")
	at.run(t, "rm", "-q", "theirs")
	assert.Equal(t, sum(want)+"  /images", at.run(t, "run", "-q", "--pull", "never", "--from-snapshot", "base", "--", "sha256sum", "/images"))
	assert.FileExists(t, filepath.Join(at.home, "volumes", "kept", "images"))
	assert.Empty(t, at.run(t, "ls", "-q"))
}
