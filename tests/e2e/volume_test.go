//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

func newVolume(t *testing.T, name string, opts ...msb.VolumeOption) *msb.Volume {
	t.Helper()
	dropVolume(t, name)
	v, err := msb.CreateVolume(within(t, patience), name, opts...)
	require.NoError(t, err)
	return v
}

// dropVolume removes a volume after the sandboxes that a test creates from here on.
func dropVolume(t *testing.T, name string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = msb.RemoveVolume(ctx, name) // often removed by the test
	})
}

func named(guest, name string, o msb.MountOptions) msb.SandboxOption {
	return msb.WithMounts(map[string]msb.MountConfig{guest: msb.Mount.Named(name, o)})
}

func discard(t *testing.T, sandboxes ...*msb.Sandbox) {
	t.Helper()
	for _, sb := range sandboxes {
		require.NoError(t, sb.Stop(within(t, patience)))
		require.NoError(t, msb.RemoveSandbox(within(t, patience), sb.Name()))
	}
}

// TestDirectoryVolume is shared by sandboxes at the same time, and outlives them.
func TestDirectoryVolume(t *testing.T) {
	ctx := within(t, 4*patience)
	v := newVolume(t, "shared")
	require.NoError(t, v.FS().WriteString(ctx, "host", "from the host"))
	one := create(t, named("/one", "shared", msb.MountOptions{}), msb.WithUser("1234:5678"))
	two := create(t, named("/two", "shared", msb.MountOptions{}), named("/ro", "shared", msb.MountOptions{Readonly: true, Noexec: true}))
	assert.Equal(t, "from the host 1234:5678", shell(t, one, "echo $(cat /one/host) $(stat -c %u:%g /one/host)"))
	shell(t, one, "mkdir /one/d; echo from one > /one/d/f; chown 5:6 /one/d/f; chmod 4755 /one/d/f; ln -s f /one/d/l", msb.WithExecUser("root"))
	assert.Equal(t, "from one 5:6:4755 f", shell(t, two, "cd /two/d; echo $(cat l) $(stat -c %u:%g:%a f) $(readlink l)"))
	shell(t, two, "echo from two >> /two/d/f")
	assert.Equal(t, "from one\nfrom two", shell(t, one, `for i in $(seq 60); do grep -q two /one/d/f && break; sleep 0.5; done; cat /one/d/f`))
	assert.Contains(t, fails(t, two, "echo x > /ro/new"), "Read-only")
	text, err := v.FS().ReadString(ctx, "d/f")
	require.NoError(t, err)
	assert.Equal(t, "from one\nfrom two\n", text)

	discard(t, one)
	err = v.Remove(ctx)
	assert.True(t, msb.IsKind(err, msb.ErrInvalidConfig), "%v", err)
	assert.ErrorContains(t, err, two.Name())
	discard(t, two)
	three := create(t, named("/data", "shared", msb.MountOptions{}))
	assert.Equal(t, "from one\nfrom two", shell(t, three, "cat /data/d/l"))
	discard(t, three)
	require.NoError(t, v.Remove(ctx))
	assert.NoDirExists(t, v.Path())
}

// TestDiskVolume belongs to one sandbox at a time, and outlives it.
func TestDiskVolume(t *testing.T) {
	ctx := within(t, 4*patience)
	dropVolume(t, "disk")
	make64 := msb.WithMounts(map[string]msb.MountConfig{"/disk": msb.Mount.NamedWith("disk", msb.MountOptions{}, msb.NamedVolumeOptions{Mode: "ensure-exists", Kind: "disk", SizeMiB: 64})})
	one := create(t, make64)
	v, err := msb.GetVolume(ctx, "disk")
	require.NoError(t, err)
	assert.Equal(t, "ext4", shell(t, one, "awk '$2 == \"/disk\" {print $3}' /proc/mounts"))
	shell(t, one, "echo kept > /disk/f; chown 5:6 /disk/f; mknod /disk/null c 1 3; sync")
	for name, readonly := range map[string]bool{"second writer": false, "reader": true} {
		_, err := msb.CreateSandbox(ctx, newName(t), msb.WithImage("mini"), msb.WithEphemeral(true), named("/disk", "disk", msb.MountOptions{Readonly: readonly}))
		require.Error(t, err, name)
		assert.ErrorContains(t, err, "already attached", name)
		assert.ErrorContains(t, err, one.Name(), name)
	}
	assert.ErrorContains(t, v.Remove(ctx), one.Name())
	assert.Contains(t, fails(t, one, "dd if=/dev/zero of=/disk/fill bs=1M count=80 2>&1"), "No space left")
	shell(t, one, "rm /disk/fill")
	discard(t, one)
	out, err := exec.CommandContext(ctx, "/usr/sbin/e2fsck", "-fn", filepath.Join(v.Path(), "disk.raw")).CombinedOutput()
	require.NoError(t, err, string(out))

	two := create(t, make64)
	assert.Equal(t, "kept 5:6 character special file", shell(t, two, "echo $(cat /disk/f) $(stat -c %u:%g /disk/f) $(stat -c %F /disk/null)"))
	require.NoError(t, two.Kill(ctx))
	three := create(t, named("/disk", "disk", msb.MountOptions{Readonly: true}))
	assert.Equal(t, "kept", shell(t, three, "cat /disk/f"), "also after a kill, and without a write")
	assert.Contains(t, fails(t, three, "echo x > /disk/f"), "Read-only")
	discard(t, three)
	require.NoError(t, v.Remove(ctx))
}

// TestVolumeQuota bounds what is in a volume, whoever put it there.
func TestVolumeQuota(t *testing.T) {
	newVolume(t, "bounded", msb.WithVolumeQuota(3))
	sb := create(t, named("/v", "bounded", msb.MountOptions{}))
	const size = "df -k /v | tail -1 | awk '{print $2}'"
	assert.Equal(t, "3072", shell(t, sb, size))
	assert.Contains(t, fails(t, sb, "dd if=/dev/zero of=/v/a bs=1M count=4 2>&1"), "No space left")
	shell(t, sb, "rm /v/a; sleep 1; dd if=/dev/zero of=/v/a bs=1M count=2 2>/dev/null")
	discard(t, sb)
	sb = create(t, named("/v", "bounded", msb.MountOptions{}))
	assert.Equal(t, "3072", shell(t, sb, size))
	assert.Contains(t, fails(t, sb, "dd if=/dev/zero of=/v/b bs=1M count=2 2>&1"), "No space left")
	shell(t, sb, "rm /v/a /v/b; sleep 1; dd if=/dev/zero of=/v/c bs=1M count=3 2>/dev/null")
	discard(t, sb)
	sb = create(t, named("/v", "bounded", msb.MountOptions{}))
	assert.Contains(t, fails(t, sb, "echo x 2>&1 > /v/more"), "No space left")
	shell(t, sb, "dd if=/dev/zero of=/v/c bs=1M count=2 conv=notrunc 2>/dev/null; cat /v/c > /dev/null")
}

// TestVolumesAreInterchangeable has microsandbox 0.6.18 and us use the same volumes in
// turn, each with its own runtime and kernel, and not at the same time.
func TestVolumesAreInterchangeable(t *testing.T) {
	official, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	home := t.TempDir()
	try := func(program string, args ...string) (string, error) {
		cmd := exec.CommandContext(within(t, 6*patience), program, args...)
		cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_PATH="+program, "HOME="+home)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	msbRun := func(program string, args ...string) string {
		t.Helper()
		out, err := try(program, args...)
		require.NoError(t, err, "%s %v: %s", program, args, out)
		return out
	}
	us, them := os.Getenv("MSB_PATH"), string(official)
	mounts := []string{"-v", "both:/dir", "--mount-named", "bothdisk:/disk:kind=disk,size=128"}
	script := func(program, script string) string {
		t.Helper()
		return msbRun(program, append(append([]string{"run", "-q", "--pull", "never"}, mounts...), "mini", "--", "sh", "-c", script)...)
	}
	const write = `for d in /dir /disk; do echo %s > $d/%s; chown 5:6 $d/%s; chmod 4711 $d/%s; ln -s %s $d/%s.l; mkfifo $d/%s.p; done`
	const look = `for d in /dir /disk; do cd $d; for f in us them; do echo $(cat $f.l) $(readlink $f.l) $(stat -c %u:%g:%a $f) $(stat -c %F $f.p); done; done`
	script(us, strings.ReplaceAll(write, "%s", "us"))
	script(them, strings.ReplaceAll(write, "%s", "them"))
	const one = "us us 5:6:4711 fifo\nthem them 5:6:4711 fifo"
	assert.Equal(t, one+"\n"+one, script(us, look))
	assert.Equal(t, one+"\n"+one, script(them, look))
	assert.Equal(t, strings.Fields(msbRun(them, "volume", "ls")), strings.Fields(msbRun(us, "volume", "ls")))
	for _, v := range []string{"both", "bothdisk"} {
		assert.Equal(t, msbRun(them, "volume", "inspect", v), msbRun(us, "volume", "inspect", v))
	}

	for holder, other := range map[string]string{us: them, them: us} {
		msbRun(holder, append(append([]string{"create", "-q", "--pull", "never", "--name", "holder"}, mounts...), "mini")...)
		out, err := try(other, "run", "-q", "--pull", "never", "--mount-named", "bothdisk:/d:kind=disk,size=128", "mini", "--", "true")
		assert.Error(t, err)
		assert.Contains(t, out, "already attached with an incompatible disk mode")
		for _, v := range []string{"both", "bothdisk"} {
			out, err := try(other, "volume", "rm", v)
			assert.Error(t, err)
			assert.Contains(t, out, "attached")
		}
		msbRun(other, "stop", "-q", "holder")
		msbRun(other, "rm", "-q", "holder")
	}
	msbRun(us, "volume", "rm", "both")
	msbRun(them, "volume", "rm", "bothdisk")
	assert.NotContains(t, msbRun(us, "volume", "ls", "-q"), "both")
}
