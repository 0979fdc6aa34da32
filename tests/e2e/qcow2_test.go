//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/rootfs/ext4"
	msb "github.com/gomsb/gomsb/sdk"
)

func qemuImg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	require.NoError(t, err, "%q: %s", args, out)
	return string(out)
}

// emptyDisk makes a disk of size bytes with an empty file system.
func emptyDisk(t *testing.T, dir, format string, size int64) string {
	t.Helper()
	raw := filepath.Join(dir, "disk.raw")
	require.NoError(t, ext4.Create(raw, ext4.Options{Size: size}))
	if format == "raw" {
		return raw
	}
	disk := filepath.Join(dir, "disk."+format)
	qemuImg(t, "convert", "-f", "raw", "-O", format, raw, disk)
	require.NoError(t, os.Remove(raw))
	return disk
}

// assertCleanQcow2 asserts that an image is sound, and the file system in it clean.
func assertCleanQcow2(t *testing.T, disk string) {
	t.Helper()
	assert.Contains(t, qemuImg(t, "check", "-f", "qcow2", disk), "No errors were found")
	raw := filepath.Join(t.TempDir(), "raw")
	qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", disk, raw)
	assertClean(t, raw)
}

// A qcow2 image, a compressed one too, is a root to boot from and to write to.
func TestQcow2Root(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "root.qcow2")
	qemuImg(t, "convert", "-c", "-f", "raw", "-O", "qcow2", data("mini.raw"), disk)
	sb := create(t, msb.WithImageDisk(disk, "ext4"))
	assert.Equal(t, "ext4", shell(t, sb, "awk '$2 == \"/\" {t=$3} END {print t}' /proc/mounts"))
	shell(t, sb, "echo written > /kept; rm /bin/vi; dd if=/dev/urandom of=/random bs=64k count=16 2>/dev/null")
	sum := shell(t, sb, "echo $(md5sum /random)")
	_, err := msb.CreateSandbox(within(t, patience), newName(t), msb.WithImageDisk(disk, "ext4"))
	assert.ErrorContains(t, err, "in use by sandbox "+sb.Name())
	require.NoError(t, sb.Stop(within(t, patience)))
	assertCleanQcow2(t, disk)
	sb = start(t, sb.Name())
	assert.Equal(t, "written "+sum, shell(t, sb, "echo $(cat /kept; md5sum /random)"))
	assert.Equal(t, "gone", shell(t, sb, "test -e /bin/vi || echo gone"))
	require.NoError(t, sb.Stop(within(t, patience)))
}

// As data disks and as the writable part of a root, qcow2 images outlive a runtime that
// is killed.
func TestQcow2Disks(t *testing.T) {
	upper, mounted := emptyDisk(t, t.TempDir(), "qcow2", 64<<20), emptyDisk(t, t.TempDir(), "qcow2", 64<<20)
	name := newName(t)
	cli(t, "create", "-q", "-n", name, "--root-disk", upper, "--mount-disk", mounted+":/data", "mini").ok(t)
	exec := func(script string) string { return cli(t, "exec", name, "--", "sh", "-c", script).ok(t) }
	exec("for d in / /data; do for i in $(seq 50); do echo $i > $d/f$i; done; done; sync; for d in / /data; do for i in $(seq 50); do echo $i > $d/g$i; rm $d/f$i; done; done")
	kill(t, name)
	for _, disk := range []string{upper, mounted} {
		out, _ := osCheck(t, disk)
		assert.NotContains(t, out, "ERROR", "leaks at worst")
	}
	cli(t, "start", name).ok(t)
	const count = "for d in / /data; do cat $d/f[0-9]* $d/g[0-9]* 2>/dev/null | sort -nu | awk '{n++; s+=$1} END {print n, s}'; done"
	assert.Equal(t, "50 1275\n50 1275\n", exec(count))
	exec("dd if=/dev/zero of=/data/zeros bs=1M count=20 2>/dev/null; rm /data/zeros")
	cli(t, "stop", name).ok(t)
	for _, disk := range []string{upper, mounted} {
		out, _ := osCheck(t, disk)
		assert.NotContains(t, out, "ERROR")
	}
	cli(t, "rm", name).ok(t)
}

// osCheck is qemu-img check, whose exit code tells leaks from errors.
func osCheck(t *testing.T, disk string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "qemu-img", "check", "-f", "qcow2", disk)
	out, _ := cmd.CombinedOutput()
	require.NotNil(t, cmd.ProcessState, "qemu-img did not run")
	return string(out), cmd.ProcessState.ExitCode()
}

// A host whose disk is full is an I/O error in the guest, which goes on, and can write
// again once there is room.
func TestHostDiskIsFull(t *testing.T) {
	for _, format := range []string{"raw", "qcow2"} {
		t.Run(format, func(t *testing.T) {
			small := t.TempDir()
			require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=24m"))
			t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
			disk := emptyDisk(t, small, format, 128<<20)
			sb := create(t, msb.WithMounts(map[string]msb.MountConfig{"/data": msb.Mount.Disk(disk, msb.DiskOptions{Format: format, Fstype: "ext4"})}))
			shell(t, sb, "echo before > /data/note; sync")
			out, err := sb.Shell(within(t, patience), "dd if=/dev/urandom of=/data/fill bs=1M count=64 conv=fsync")
			require.NoError(t, err, "the sandbox goes on")
			assert.NotZero(t, out.ExitCode())
			assert.Contains(t, out.Stderr(), "Input/output error")
			assert.Equal(t, "alive", shell(t, sb, "echo alive > /root-works; cat /root-works"))
			log, err := os.ReadFile(homePath("sandboxes", sb.Name(), "logs", "runtime.log"))
			require.NoError(t, err)
			assert.Contains(t, string(log), "no space left on device")

			require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=256m"))
			require.NoError(t, sb.Stop(within(t, patience)))
			if format == "qcow2" {
				report, code := osCheck(t, disk)
				assert.Contains(t, []int{0, 3}, code, report)
			}
			sb = start(t, sb.Name())
			shell(t, sb, "rm -f /data/fill; dd if=/dev/zero of=/data/fill bs=1M count=32 conv=fsync; rm /data/fill")
			assert.Equal(t, "before", shell(t, sb, "cat /data/note"))
			require.NoError(t, sb.Stop(within(t, patience)))
		})
	}
}
