//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// marker is a service that says on the host when it starts and when it is stopped.
const marker = `[Unit]
RequiresMountsFor=/host
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo started >>/host/said'
ExecStop=/bin/sh -c 'echo stopped >>/host/said'
`

// TestSystemd boots Debian with its systemd as the init, and stops it.
func TestSystemd(t *testing.T) {
	t.Setenv("MSB_SHUTDOWN_FLUSH_TIMEOUT_MS", "240000") // systemd takes its time there
	ctx, host := within(t, 12*patience), t.TempDir()
	name := newName(t)
	sb, err := msb.CreateSandbox(ctx, name, msb.WithImage("systemd"), msb.WithInit(msb.Init.Auto()), bind("/host", host, msb.MountOptions{}))
	require.NoError(t, err)
	run := func(script string) string {
		t.Helper()
		out, err := sb.Shell(ctx, script)
		require.NoError(t, err)
		return strings.TrimSpace(out.Stdout() + out.Stderr())
	}
	assert.Contains(t, run("readlink /proc/1/exe"), "/systemd/systemd")
	// Commands work from the beginning, when there is nothing yet to talk to.
	assert.Equal(t, "running", run("until [ -S /run/systemd/private ]; do sleep 0.5; done; systemctl is-system-running --wait; systemctl --failed --no-legend --plain"))
	assert.Equal(t, "active", run("systemctl is-active multi-user.target"))

	require.NoError(t, sb.FS().Write(ctx, "/etc/systemd/system/marker.service", []byte(marker)))
	assert.Empty(t, run("systemctl daemon-reload && systemctl start marker"))
	assert.Equal(t, "active", run("systemctl is-active marker"))

	require.NoError(t, sb.Stop(ctx, msb.WithStopTimeout(4*patience)))
	r := ended(t, name)
	assert.Equal(t, msb.SandboxStatusStopped, r.Status)
	require.NotNil(t, r.ExitCode)
	assert.Zero(t, *r.ExitCode)
	said, err := os.ReadFile(filepath.Join(host, "said"))
	require.NoError(t, err)
	assert.Equal(t, "started\nstopped\n", string(said), "systemd has stopped its services")
	log, err := os.ReadFile(homePath("sandboxes", name, "logs", "runtime.log"))
	require.NoError(t, err)
	assert.NotContains(t, string(log), "did not go in time", "systemd has switched the machine off")
	noTrace(t, name)
}
