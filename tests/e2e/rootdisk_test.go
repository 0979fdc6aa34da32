//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/rootfs/ext4"
	msb "github.com/gomsb/gomsb/sdk"
)

// inspectDisk reads the superblock of a disk image.
func inspectDisk(t *testing.T, path string) ext4.Info {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := ext4.Inspect(f)
	require.NoError(t, err)
	return info
}

// assertClean asserts that nothing is left to recover on a disk, and that its file system
// is sound. The exit code of e2fsck -n says nothing of a journal that waits.
func assertClean(t *testing.T, path string) {
	t.Helper()
	info := inspectDisk(t, path)
	assert.False(t, info.NeedsRecovery, "%s has a journal to replay", path)
	assert.False(t, info.NeedsCheck, "%s has errors", path)
	out, err := exec.CommandContext(t.Context(), "/usr/sbin/e2fsck", "-fn", path).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.NotContains(t, string(out), "journal")
	assert.NotContains(t, string(out), "WARNING")
	assert.NotContains(t, string(out), "Deleted inode", "nothing is left half removed")
}

func upperOf(sb *msb.Sandbox) string { return homePath("sandboxes", sb.Name(), "upper.ext4") }

func start(t *testing.T, name string) *msb.Sandbox {
	t.Helper()
	sb, err := msb.StartSandbox(within(t, patience), name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = sb.Close() }) // often stopped and closed by the test
	return sb
}

// What a sandbox writes lasts, on a file system that each stop leaves clean.
func TestRootLasts(t *testing.T) {
	sb := create(t)
	upper := upperOf(sb)
	st, err := os.Stat(upper)
	require.NoError(t, err)
	assert.Equal(t, int64(4<<30), st.Size())
	assert.Less(t, st.Sys().(*syscall.Stat_t).Blocks*512, int64(16<<20), "it takes space as it is written")
	assert.Equal(t, "overlay", shell(t, sb, "awk '$2 == \"/\" {t=$3} END {print t}' /proc/mounts"))
	assert.Equal(t, "1", shell(t, sb, "cat /sys/fs/ext4/*/mb_prefetch"), "the bitmaps of a new file system are not read ahead")
	shell(t, sb, "echo kept > /file; rm /bin/vi; mkdir /new; chown 5:6 /new; ln -s /file /new/link; chmod 4711 /bin/busybox")
	// Processes that hold on to files do not keep the disk busy, nor do files without a name.
	shell(t, sb, holdFiles("/new")+"; (while :; do date >> /new/log; done) >/dev/null 2>&1 & sleep 0.3")
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upper)

	sb = start(t, sb.Name())
	assert.Equal(t, "kept 5:6 /file 4711", shell(t, sb, "echo $(cat /new/link) $(stat -c %u:%g /new) $(readlink /new/link) $(stat -c %a /bin/busybox)"))
	assert.Equal(t, "gone", shell(t, sb, "test -e /bin/vi || echo gone"))
	assert.Equal(t, "link log", shell(t, sb, "echo $(ls /new)"))
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upper)
	require.NoError(t, msb.RemoveSandbox(within(t, patience), sb.Name()))
	assert.NoFileExists(t, upper)
}

// holdFiles is a script that leaves processes behind which hold on to a directory and to a
// file in it that has no name any more.
func holdFiles(dir string) string {
	return "(exec 3>" + dir + "/open; rm " + dir + "/open; echo data >&3; exec sleep 1000) >/dev/null 2>&1 & (cd " + dir + "; exec sleep 1000) >/dev/null 2>&1 & sleep 0.1"
}

// What was synced before the runtime was killed is there: the journal sees to it.
func TestRootSurvivesAKill(t *testing.T) {
	disk := copyDisk(t)
	sb := create(t, msb.WithMounts(map[string]msb.MountConfig{"/data": msb.Mount.Disk(disk, msb.DiskOptions{})}))
	upper := upperOf(sb)
	shell(t, sb, "for i in $(seq 200); do echo $i > /f$i; echo $i > /data/f$i; done; sync; for i in $(seq 200); do echo $i > /g$i; mv /f$i /h$i; done")
	kill(t, sb.Name())
	assert.True(t, inspectDisk(t, upper).NeedsRecovery, "or this proves nothing")
	assert.True(t, inspectDisk(t, disk).NeedsRecovery)

	sb = start(t, sb.Name())
	assert.Equal(t, "200 20100", shell(t, sb, "cat /f[0-9]* /h[0-9]* 2>/dev/null | awk '{n++; s+=$1} END {print n, s}'"))
	assert.Equal(t, "200 20100", shell(t, sb, "cat /data/f[0-9]* | awk '{n++; s+=$1} END {print n, s}'"))
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upper)
	assertClean(t, disk)
}

// A managed disk grows when its sandbox starts, even one with a journal that waits.
func TestRootGrows(t *testing.T) {
	sb := create(t, msb.WithRootDisk(msb.RootDisk.Managed(64)))
	upper := upperOf(sb)
	assert.Equal(t, "full", shell(t, sb, "dd if=/dev/zero of=/fill bs=1M count=80 2>/dev/null || echo full"))
	shell(t, sb, "rm /fill; echo kept > /file; sync")
	kill(t, sb.Name())
	require.True(t, inspectDisk(t, upper).NeedsRecovery)
	setRootDisk(t, sb.Name(), map[string]any{"kind": "managed", "size_mib": 200})

	sb = start(t, sb.Name())
	assert.Equal(t, int64(200<<20), inspectDisk(t, upper).Size)
	assert.Equal(t, "kept", shell(t, sb, "cat /file"))
	shell(t, sb, "dd if=/dev/zero of=/fill bs=1M count=80")
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upper)
}

// kill takes the runtime away without a word.
func kill(t *testing.T, name string) {
	t.Helper()
	pids := runtimes(t, name)
	require.Len(t, pids, 1)
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
	eventually(t, "the sandbox counts as crashed", func() bool { return status(t, name) == msb.SandboxStatusCrashed })
}

// Root disks by the command line: in memory, and in a file of the user's.
func TestRootDiskKinds(t *testing.T) {
	memory := newName(t)
	cli(t, "create", "-q", "-n", memory, "--root-disk", "tmpfs:64M", "mini").ok(t)
	cli(t, "exec", memory, "--", "touch", "/file").ok(t)
	cli(t, "stop", memory).ok(t)
	assert.NoFileExists(t, homePath("sandboxes", memory, "upper.ext4"))
	cli(t, "start", memory).ok(t)
	assert.Equal(t, "gone\n", cli(t, "exec", memory, "--", "sh", "-c", "test -e /file || echo gone").ok(t))
	cli(t, "stop", memory).ok(t)

	flat := newName(t)
	cli(t, "create", "-q", "-n", flat, "--root-disk", "flat:300M", "mini").ok(t)
	assert.Equal(t, "ext4\n", cli(t, "exec", flat, "--", "awk", "$2 == \"/\" {t=$3} END {print t}", "/proc/mounts").ok(t))
	cli(t, "exec", flat, "--", "sh", "-c", "rm /bin/vi; echo kept > /file; df -m / | awk 'END {exit !($2 > 200)}'").ok(t)
	cli(t, "stop", flat).ok(t)
	assertClean(t, homePath("sandboxes", flat, "rootfs.raw"))
	cli(t, "start", flat).ok(t)
	assert.Equal(t, "kept\ngone\n", cli(t, "exec", flat, "--", "sh", "-c", "cat /file; test -e /bin/vi || echo gone").ok(t))
	cli(t, "rm", "-f", flat).ok(t)

	disk := filepath.Join(t.TempDir(), "mine.img")
	out, err := exec.CommandContext(t.Context(), "/usr/sbin/mke2fs", "-q", "-t", "ext4", disk, "32M").CombinedOutput()
	require.NoError(t, err, string(out))
	first, second := newName(t), newName(t)
	cli(t, "create", "-q", "-n", first, "--root-disk", disk, "mini").ok(t)
	cli(t, "exec", first, "--", "sh", "-c", "echo from the first > /file").ok(t)
	r := cli(t, "create", "-q", "-n", second, "--root-disk", disk, "mini")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, disk)
	assert.Contains(t, r.stderr, "in use by sandbox "+first+" (process ")
	cli(t, "stop", first).ok(t)
	assertClean(t, disk)
	cli(t, "start", second).ok(t)
	assert.Equal(t, "from the first\n", cli(t, "exec", second, "--", "cat", "/file").ok(t))
	cli(t, "rm", "-f", second).ok(t)
	assert.FileExists(t, disk, "it is not the sandbox's to remove")
}

// A directory of the host is the root, and keeps what the sandbox writes.
func TestBindRootfs(t *testing.T) {
	dir := t.TempDir()
	donor := shared(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, donor.FS().CopyToHost(within(t, patience), "/bin/busybox", filepath.Join(dir, "bin", "busybox")))
	require.NoError(t, os.Chmod(filepath.Join(dir, "bin", "busybox"), 0o755))
	for _, applet := range []string{"sh", "cat", "awk", "stat", "chown", "echo"} {
		require.NoError(t, os.Symlink("busybox", filepath.Join(dir, "bin", applet)))
	}
	sb := create(t, msb.WithImage(dir))
	assert.Equal(t, "virtiofs", shell(t, sb, "awk '$2 == \"/\" {t=$3} END {print t}' /proc/mounts"))
	shell(t, sb, "echo kept > /file; chown 5:6 /file")
	require.NoError(t, sb.Stop(within(t, patience)))
	b, err := os.ReadFile(filepath.Join(dir, "file"))
	require.NoError(t, err)
	assert.Equal(t, "kept\n", string(b))
	sb = start(t, sb.Name())
	assert.Equal(t, "kept 5:6", shell(t, sb, "echo $(cat /file) $(stat -c %u:%g /file)"))
	require.NoError(t, sb.Stop(within(t, patience)))
}
