//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/rootfs/stitch"
	msb "github.com/gomsb/gomsb/sdk"
)

// copyDisk is a fresh copy of the disk image of the mini root.
func copyDisk(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(data("mini.raw"))
	require.NoError(t, err)
	disk := filepath.Join(t.TempDir(), "root.raw")
	require.NoError(t, os.WriteFile(disk, b, 0o644))
	return disk
}

func TestDiskImageRoot(t *testing.T) {
	for _, fstype := range []string{"ext4", ""} {
		t.Run("fstype "+fstype, func(t *testing.T) {
			disk := copyDisk(t)
			sb := create(t, msb.WithImageDisk(disk, fstype))
			assert.Equal(t, "ext4", shell(t, sb, "awk '$2 == \"/\" {t=$3} END {print t}' /proc/mounts"))
			shell(t, sb, "echo written > /kept; "+holdFiles("/"))
			require.NoError(t, sb.Stop(within(t, patience)))
			assertClean(t, disk)
			again, err := msb.StartSandbox(within(t, patience), sb.Name())
			require.NoError(t, err)
			assert.Equal(t, "written", shell(t, again, "cat /kept"))
		})
	}
}

// TestReadOnlyRoot boots what cannot be written, a VMDK: what the sandbox writes is in its
// memory, and two have it at a time.
func TestReadOnlyRoot(t *testing.T) {
	disk := copyDisk(t)
	before, err := os.ReadFile(disk)
	require.NoError(t, err)
	text, err := stitch.Descriptor([]stitch.Extent{{Path: disk, Size: int64(len(before))}})
	require.NoError(t, err)
	vmdk := filepath.Join(t.TempDir(), "root.vmdk")
	require.NoError(t, os.WriteFile(vmdk, text, 0o644))
	sb, second := create(t, msb.WithImageDisk(vmdk, "ext4")), create(t, msb.WithImageDisk(vmdk, ""))
	shell(t, sb, "echo mine > /file; rm /bin/vi")
	assert.Equal(t, "mine", shell(t, sb, "cat /file"))
	assert.Equal(t, "/bin/vi", shell(t, second, "ls /bin/vi"))
	assert.Equal(t, "755 0:0", shell(t, sb, "stat -c '%a %u:%g' /"))
	require.NoError(t, sb.Stop(within(t, patience)))
	require.NoError(t, second.Stop(within(t, patience)))
	after, err := os.ReadFile(disk)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(before, after))
	again := start(t, sb.Name())
	assert.Equal(t, "gone", shell(t, again, "test -e /file || echo gone"))
	require.NoError(t, again.Stop(within(t, patience)))
}

func TestDiskMount(t *testing.T) {
	disk := copyDisk(t)
	sb := create(t, msb.WithMounts(map[string]msb.MountConfig{"/data": msb.Mount.Disk(disk, msb.DiskOptions{})}))
	assert.Equal(t, "/data/bin/busybox", shell(t, sb, "ls /data/bin/busybox"))
	shell(t, sb, "echo from one > /data/note; "+holdFiles("/data"))
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, disk)
	sb = create(t, msb.WithMounts(map[string]msb.MountConfig{"/data": msb.Mount.Disk(disk, msb.DiskOptions{Readonly: true, Noexec: true, Fstype: "ext4"})}))
	assert.Equal(t, "from one", shell(t, sb, "cat /data/note"))
	out, err := sb.Shell(within(t, patience), "echo x > /data/note")
	require.NoError(t, err)
	assert.Contains(t, out.Stderr(), "Read-only")
	out, err = sb.Shell(within(t, patience), "/data/bin/busybox true")
	require.NoError(t, err)
	assert.Equal(t, 126, out.ExitCode())
}

// TestUpperOnADevice boots a sandbox whose catalogue entry was made by an official
// release, with the changes to its root on a disk of its own.
func TestUpperOnADevice(t *testing.T) {
	sb := create(t)
	require.NoError(t, sb.Stop(within(t, patience)))
	setRootDisk(t, sb.Name(), map[string]any{"kind": "managed", "size_mib": 32})
	upper := homePath("sandboxes", sb.Name(), "upper.ext4")
	out, err := exec.CommandContext(t.Context(), "/usr/sbin/mke2fs", "-q", "-t", "ext4", upper, "32M").CombinedOutput()
	require.NoError(t, err, string(out))

	again, err := msb.StartSandbox(within(t, patience), sb.Name())
	require.NoError(t, err)
	assert.Equal(t, "overlay", shell(t, again, "awk '$2 == \"/\" {t=$3} END {print t}' /proc/mounts"))
	shell(t, again, "echo kept > /file; rm /bin/vi; mkdir /new; chown 5:6 /new")
	require.NoError(t, again.Stop(within(t, patience)))
	again, err = msb.StartSandbox(within(t, patience), sb.Name())
	require.NoError(t, err)
	assert.Equal(t, "kept 5:6", shell(t, again, "echo $(cat /file) $(stat -c %u:%g /new)"))
	assert.Equal(t, "gone", shell(t, again, "test -e /bin/vi || echo gone"))
	assert.Equal(t, "full", shell(t, again, "dd if=/dev/zero of=/fill bs=1M count=64 2>/dev/null || echo full"))
}

func setRootDisk(t *testing.T, name string, disk map[string]any) {
	t.Helper()
	ctx := within(t, patience)
	db, err := store.Open(ctx, homePath("db", "msb.db"), store.Options{})
	require.NoError(t, err)
	defer db.Close()
	row, err := db.Sandbox(ctx, name)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal([]byte(row.Config), &config))
	config["image"].(map[string]any)["Oci"].(map[string]any)["root_disk"] = disk
	text, err := json.Marshal(config)
	require.NoError(t, err)
	require.NoError(t, db.SetConfig(ctx, row.ID, string(text), nil))
}
