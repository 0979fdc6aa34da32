//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

func TestOptionsInTheGuest(t *testing.T) {
	sb := create(t,
		msb.WithUser("guest"), msb.WithHostname("h"), msb.WithWorkdir("/usr/bin"), msb.WithShell("/bin/ash"),
		msb.WithEnv(map[string]string{"ONE": "1", "TWO": "2"}), msb.WithRlimits(msb.Rlimit{Resource: "nofile", Soft: 500, Hard: 600}),
		msb.WithMounts(map[string]msb.MountConfig{
			"/small": msb.Mount.Tmpfs(msb.TmpfsOptions{SizeMiB: 4}),
			"/ro":    msb.Mount.Tmpfs(msb.TmpfsOptions{Readonly: true, Noexec: true}),
		}))
	assert.Equal(t, "guest", shell(t, sb, "whoami"))
	assert.Equal(t, "h", shell(t, sb, "hostname"))
	assert.Equal(t, "/usr/bin", shell(t, sb, "pwd"))
	assert.Equal(t, "1 2 1", shell(t, sb, "echo $ONE $TWO $TEST_IMAGE"))
	assert.Equal(t, "1 3", shell(t, sb, "echo $ONE $TWO", msb.WithExecEnv(map[string]string{"TWO": "3"})))
	assert.Equal(t, "500 600", shell(t, sb, "echo $(ulimit -Sn) $(ulimit -Hn)"))
	assert.Contains(t, shell(t, sb, "cat /etc/hosts"), "h")
	assert.Equal(t, "root", shell(t, sb, "whoami", msb.WithExecUser("root")))

	root := msb.WithExecUser("root")
	shell(t, sb, "dd if=/dev/zero of=/small/a bs=1M count=1", root)
	out, err := sb.Shell(within(t, patience), "dd if=/dev/zero of=/small/b bs=1M count=8", root)
	require.NoError(t, err)
	assert.Contains(t, out.Stderr(), "No space left")
	out, err = sb.Shell(within(t, patience), "touch /ro/x", root)
	require.NoError(t, err)
	assert.Contains(t, out.Stderr(), "Read-only")
}

func TestOptionsArePersisted(t *testing.T) {
	sb := create(t,
		msb.WithShell("/bin/sh"), msb.WithEntrypoint("/bin/echo", "e"), msb.WithCmd("c"), msb.WithMaxDuration(2*time.Hour), msb.WithIdleTimeout(30*time.Minute),
		msb.WithLogLevel(msb.LogLevelInfo), msb.WithMaxCPUs(2), msb.WithMaxMemory(1024))
	h, err := msb.GetSandbox(within(t, patience), sb.Name())
	require.NoError(t, err)
	text := h.ConfigJSON()
	for _, want := range []string{`"max_duration_secs":7200`, `"idle_timeout_secs":1800`, `"log_level":"info"`, `"entrypoint":["/bin/echo","e"]`, `"shell":"/bin/sh"`} {
		assert.Contains(t, text, want)
	}
	c, err := h.Config()
	require.NoError(t, err)
	assert.Equal(t, []string{"/bin/echo", "e", "c"}, c.DefaultCommand())
	assert.Equal(t, 2*time.Hour, c.MaxDuration)
	assert.EqualValues(t, 2, c.MaxCPUs)
	assert.EqualValues(t, 1024, c.MaxMemoryMiB)
}

func TestQuietLogs(t *testing.T) {
	sb := create(t, msb.WithLogLevel(msb.LogLevelInfo), msb.WithQuietLogs())
	h, err := msb.GetSandbox(within(t, patience), sb.Name())
	require.NoError(t, err)
	assert.Contains(t, h.ConfigJSON(), `"log_level":null`)
}

func TestSecurityProfiles(t *testing.T) {
	capabilities := "grep -E 'CapBnd|NoNewPrivs' /proc/self/status | tr -s '\\t\\n' ' '"
	sb := create(t, msb.WithSecurityProfile(msb.SecurityProfileRestricted))
	got := strings.Fields(shell(t, sb, capabilities))
	require.Len(t, got, 4)
	assert.Equal(t, []string{"CapBnd:", "000001ffffdfffff", "NoNewPrivs:", "1"}, got)
	out, err := sb.Shell(within(t, patience), "mkdir -p /m && mount -t tmpfs none /m")
	require.NoError(t, err)
	assert.NotZero(t, out.ExitCode(), "no mounts without CAP_SYS_ADMIN")

	assert.Equal(t, []string{"CapBnd:", "000001ffffffffff", "NoNewPrivs:", "0"}, strings.Fields(shell(t, shared(t), capabilities)))
	shell(t, shared(t), "mkdir -p /m && mount -t tmpfs none /m && umount /m && rmdir /m")
}

func TestInitHandOff(t *testing.T) {
	sb := create(t, msb.WithInit(msb.Init.Cmd("/bin/init", msb.InitOptions{Env: map[string]string{"INIT_SAYS": "yes"}})))
	assert.Equal(t, "init", shell(t, sb, "cat /proc/1/comm"))
	assert.Equal(t, "/bin/busybox", shell(t, sb, "readlink /proc/1/exe"))
	assert.NotEqual(t, "1", shell(t, sb, "awk '/^PPid/ {print $2}' /proc/self/status"), "the agent is a process beside it")
	assert.Contains(t, shell(t, sb, "tr '\\0' '\\n' </proc/1/environ"), "INIT_SAYS=yes")
	h, err := msb.GetSandbox(within(t, patience), sb.Name())
	require.NoError(t, err)
	c, err := h.Config()
	require.NoError(t, err)
	require.NotNil(t, c.Init)
	assert.Equal(t, "/bin/init", c.Init.Cmd)
	require.NoError(t, sb.Stop(within(t, patience), msb.WithStopTimeout(patience/2)))
	orderly := func() {
		r := ended(t, sb.Name())
		assert.Equal(t, msb.SandboxStatusStopped, r.Status)
		require.NotNil(t, r.ExitCode)
		assert.Zero(t, *r.ExitCode)
	}
	orderly()

	sb, err = msb.StartSandbox(within(t, patience), sb.Name())
	require.NoError(t, err)
	_, _ = sb.Shell(within(t, patience), "poweroff") // the answer may be too late
	orderly()
}

func TestProcessors(t *testing.T) {
	sb := create(t, msb.WithCPUs(4))
	assert.Equal(t, "4", shell(t, sb, "nproc"))
	assert.Equal(t, "done", shell(t, sb, "for i in 1 2 3 4; do (n=0; while [ $n -lt 500 ]; do n=$((n+1)); done) & done; wait; echo done"))
	assert.Equal(t, "1", shell(t, shared(t), "nproc"))
}

// TestMemoryAboveTheHole gives a guest more memory than fits below the device hole.
func TestMemoryAboveTheHole(t *testing.T) {
	sb := create(t, msb.WithMemory(5*1024))
	kib := shell(t, sb, "awk '/MemTotal/ {print $2}' /proc/meminfo")
	assert.Greater(t, len(kib), 6)
	assert.GreaterOrEqual(t, kib, "4800000")
	assert.Contains(t, shell(t, sb, "cat /proc/iomem"), "100000000-")
	small := shell(t, shared(t), "awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo")
	assert.Regexp(t, "^(6[5-9]|7[0-6])[0-9]$", small, "of 768 MiB")
}
