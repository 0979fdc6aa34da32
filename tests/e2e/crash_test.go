//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestRuntimeIsKilled takes the runtime away without a word.
func TestRuntimeIsKilled(t *testing.T) {
	sb := create(t)
	h, err := sb.ExecStream(within(t, patience), "sleep", []string{"1000"})
	require.NoError(t, err)
	pids := runtimes(t, sb.Name())
	require.Len(t, pids, 1)
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
	_, err = h.Wait(within(t, patience))
	assert.True(t, msb.IsKind(err, msb.ErrSandboxNotRunning), "a command that waits learns of it: %v", err)
	eventually(t, "the sandbox counts as crashed", func() bool { return status(t, sb.Name()) == msb.SandboxStatusCrashed })

	again, err := msb.StartSandbox(within(t, patience), sb.Name())
	require.NoError(t, err, "no stale lock or socket is in the way")
	assert.Equal(t, "recovered", shell(t, again, "echo recovered"))
	require.NoError(t, again.Stop(within(t, patience)))
	assert.Equal(t, msb.SandboxStatusStopped, status(t, sb.Name()))
	noTrace(t, sb.Name())
}

func TestEphemeralRuntimeIsKilled(t *testing.T) {
	sb := create(t, msb.WithEphemeral(true))
	pids := runtimes(t, sb.Name())
	require.Len(t, pids, 1)
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
	eventually(t, "the sandbox is removed", func() bool {
		_, err := msb.GetSandbox(within(t, patience), sb.Name())
		return msb.IsKind(err, msb.ErrSandboxNotFound)
	})
	gone(t, sb.Name())
}

func TestKernelPanics(t *testing.T) {
	sb := create(t)
	shell(t, sb, "kill -9 1; kill -15 1; kill -1 1; sleep 0.2")
	_, err := sb.Shell(within(t, patience), "echo f > /proc/sysrq-trigger")
	require.NoError(t, err)
	assert.Equal(t, "unharmed", shell(t, sb, "echo unharmed"), "neither signals nor the OOM killer end the agent")
	_, err = sb.Shell(within(t, patience), "echo c > /proc/sysrq-trigger")
	assert.True(t, msb.IsKind(err, msb.ErrSandboxNotRunning), "%v", err)
	r := ended(t, sb.Name())
	assert.Equal(t, msb.SandboxStatusCrashed, r.Status)
	require.NotNil(t, r.Source)
	assert.Equal(t, "Failed", *r.Source)
	log, err := os.ReadFile(homePath("sandboxes", sb.Name(), "logs", "kernel.log"))
	require.NoError(t, err)
	assert.Contains(t, string(log), "Kernel panic")
	assert.Contains(t, cli(t, "logs", "--source", "system", sb.Name()).ok(t), "Kernel panic")
	noTrace(t, sb.Name())
}

func TestGuestResets(t *testing.T) {
	sb := create(t)
	_, _ = sb.Shell(within(t, patience), "echo b > /proc/sysrq-trigger")
	assert.Equal(t, msb.SandboxStatusCrashed, ended(t, sb.Name()).Status)
	noTrace(t, sb.Name())
}

// bootFails asserts that a sandbox does not start, and why, in the SDK's error, in
// boot-error.json and in what msb prints.
func bootFails(t *testing.T, start func(name string) error, args func(name string) []string, stage, message string) {
	t.Helper()
	name := newName(t)
	err := start(name)
	var failure *msb.StartError
	require.ErrorAs(t, err, &failure)
	require.NotNil(t, failure.Failure, "%v", err)
	assert.Equal(t, stage, failure.Failure.Stage)
	assert.Contains(t, failure.Failure.Message, message)
	assert.FileExists(t, homePath("sandboxes", name, "logs", "boot-error.json"))
	assert.Equal(t, msb.SandboxStatusStopped, status(t, name))
	noTrace(t, name)
	r := cli(t, "logs", name)
	assert.Zero(t, r.code)
	assert.Contains(t, r.stderr, "\n  → "+stage+": ")

	r = cli(t, args(newName(t))...)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "error: failed to start ")
	assert.Contains(t, r.stderr, "→ "+stage+": ")
	assert.Contains(t, r.stderr, message)
	assert.Contains(t, r.stderr, "msb logs --source system ")
}

func createMini(t *testing.T, opts ...msb.SandboxOption) func(string) error {
	return func(name string) error {
		_, err := msb.CreateSandbox(within(t, patience), name, append(opts, msb.WithImage("mini"))...)
		return err
	}
}

func createArgs(more ...string) func(string) []string {
	return func(name string) []string { return append([]string{"create", "-q", "-n", name, "mini"}, more...) }
}

func TestBootWithoutAKernel(t *testing.T) {
	t.Setenv("MSB_KERNEL", "/no/such/kernel")
	bootFails(t, createMini(t), createArgs(), "build_vm", "/no/such/kernel")
}

func TestBootWithABadKernel(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "vmlinux")
	require.NoError(t, os.WriteFile(bad, []byte("this is no kernel\n"), 0o644))
	t.Setenv("MSB_KERNEL", bad)
	bootFails(t, createMini(t), createArgs(), "build_vm", bad)
}

func TestBootWithTooMuchMemory(t *testing.T) {
	bootFails(t, createMini(t, msb.WithMemory(1<<31)), createArgs("-m", "2097152G"), "build_vm", "memory")
	_, err := msb.CreateSandbox(within(t, patience), newName(t), msb.WithImage("mini"), msb.WithMemory(32))
	assert.True(t, msb.IsKind(err, msb.ErrInvalidConfig), "%v", err)
}

func TestBootWithoutItsDisk(t *testing.T) {
	disk := copyDisk(t)
	name := newName(t)
	sb := createAs(t, name, msb.WithImageDisk(disk, "ext4"))
	require.NoError(t, sb.Stop(within(t, patience)))
	require.NoError(t, os.Remove(disk))
	_, err := msb.StartSandbox(within(t, patience), name)
	require.True(t, msb.IsKind(err, msb.ErrInvalidConfig), "%v", err)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, disk)
	noTrace(t, name)
	r := cli(t, "start", name)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, disk)

	r = cli(t, "create", "-n", newName(t), disk)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, disk)
}

func TestBootWithABadRoot(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "junk.raw")
	require.NoError(t, os.WriteFile(disk, random(t, 9, 1<<20), 0o644))
	bootFails(t, func(name string) error {
		_, err := msb.CreateSandbox(within(t, patience), name, msb.WithImageDisk(disk, "ext4"))
		return err
	}, func(name string) []string { return []string{"create", "-n", name, disk} }, "image", "/dev/vda")

	mount := map[string]msb.MountConfig{"/data": msb.Mount.Disk(disk, msb.DiskOptions{})}
	bootFails(t, createMini(t, msb.WithMounts(mount)), createArgs("--mount-disk", disk+":/data"), "mount", "/data")

}
