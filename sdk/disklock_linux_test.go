package microsandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// No two sandboxes have one disk image while one of them writes to it.
func TestDiskImagesAreLocked(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	disk := filepath.Join(t.TempDir(), "data.raw")
	require.NoError(t, os.WriteFile(disk, make([]byte, 4096), 0o600))
	with := func(readOnly bool) SandboxOption {
		return WithMounts(map[string]MountConfig{"/data": Mount.Disk(disk, DiskOptions{Readonly: readOnly})})
	}
	writer := create(t, "writer", with(false))
	for name, opts := range map[string][]SandboxOption{"mount": {WithImage(testImage), with(false)}, "read-only mount": {WithImage(testImage), with(true)}, "root": {WithImageDisk(disk, "")}} {
		_, err := CreateSandbox(ctx, "second", append(opts, WithReplace())...)
		require.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", name, err)
		var busy *launch.DiskBusyError
		require.ErrorAs(t, err, &busy)
		assert.Equal(t, []launch.DiskHolder{{PID: runtimePID(t, h, "writer"), Sandbox: "writer"}}, busy.Holders)
		assert.ErrorContains(t, err, disk)
		assert.Equal(t, SandboxStatusStopped, status(t, "second"))
	}
	require.NoError(t, writer.Stop(ctx))

	first := create(t, "reader", with(true))
	second := create(t, "second", with(true), WithReplace())
	_, err := StartSandbox(ctx, "writer")
	assert.ErrorIs(t, err, launch.ErrDiskBusy)
	require.NoError(t, first.Kill(ctx))
	require.NoError(t, second.Kill(ctx))
	again, err := StartSandbox(ctx, "writer")
	require.NoError(t, err, "those that were killed hold nothing")
	require.NoError(t, again.Kill(ctx))
	require.NoError(t, again.Close())
	<-again.proc.Exited()
}

// The lock of any other program counts as well, such as that of util-linux.
func TestDiskLockOfAnotherProgram(t *testing.T) {
	flock, err := exec.LookPath("flock")
	require.NoError(t, err, "it belongs to util-linux")
	newGuests(t, runtimetest.Guest{})
	disk := filepath.Join(t.TempDir(), "root.raw")
	require.NoError(t, os.WriteFile(disk, make([]byte, 4096), 0o600))
	cmd := exec.CommandContext(testContext(t), flock, "-x", disk, "sh", "-c", "echo locked; read _")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 8))
	require.NoError(t, err)
	_, err = CreateSandbox(testContext(t), "a", WithImageDisk(disk, ""))
	require.ErrorIs(t, err, launch.ErrDiskBusy)
	assert.ErrorContains(t, err, "in use by process "+strconv.Itoa(cmd.Process.Pid))
	require.NoError(t, in.Close())
	require.Error(t, cmd.Wait()) // read saw the end of its input
	sb, err := CreateSandbox(testContext(t), "b", WithImageDisk(disk, ""))
	require.NoError(t, err)
	require.NoError(t, sb.Kill(testContext(t)))
	require.NoError(t, sb.Close())
	<-sb.proc.Exited()
}

func TestDiskTwiceInOneSandbox(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	disk := filepath.Join(t.TempDir(), "data.raw")
	require.NoError(t, os.WriteFile(disk, make([]byte, 4096), 0o600))
	_, err := CreateSandbox(testContext(t), "a", WithImage(testImage), WithMounts(map[string]MountConfig{
		"/one": Mount.Disk(disk, DiskOptions{Readonly: true}), "/two": Mount.Disk(disk, DiskOptions{Readonly: true}),
	}))
	assert.True(t, IsKind(err, ErrInvalidConfig))
	assert.ErrorIs(t, err, launch.ErrDiskTwice)
}
