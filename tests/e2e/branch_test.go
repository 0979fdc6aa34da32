//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// counting has a guest count to a file in memory, write to its disk and to a volume, and
// hold a file open.
const counting = `echo written > /note; echo kept > /data/note
(exec 7< /note; i=0; while :; do i=$((i+1)); echo $i > /tmp/new; mv /tmp/new /tmp/count; read -r x <&7 || true; usleep 50000; done) > /dev/null 2>&1 < /dev/null &
while ! test -s /tmp/count; do usleep 10000; done; sync; echo $!`

// branched registers copies for removal.
func branched(t *testing.T, up []*msb.Sandbox) {
	t.Helper()
	for _, sb := range up {
		t.Cleanup(func() {
			_ = sb.Kill(context.Background()) // it may be gone
			_ = sb.Close()
		})
	}
}

func count(t *testing.T, sb *msb.Sandbox) int {
	t.Helper()
	n, err := strconv.Atoi(shell(t, sb, "cat /tmp/count"))
	require.NoError(t, err)
	return n
}

// goesOn asserts that the process that counts is there and goes on.
func goesOn(t *testing.T, sb *msb.Sandbox, pid string, least int) {
	t.Helper()
	shell(t, sb, "kill -0 "+pid)
	began := count(t, sb)
	assert.GreaterOrEqual(t, began, least, "%s goes on where it was", sb.Name())
	eventually(t, sb.Name()+" counts on", func() bool { return count(t, sb) > began })
}

// writtenBy is how many bytes the runtime of a sandbox has written so far.
func writtenBy(t *testing.T, sb *msb.Sandbox) int64 {
	t.Helper()
	pids := runtimes(t, sb.Name())
	require.Len(t, pids, 1)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pids[0]))
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(text), "wchar: ")
	line, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseInt(line, 10, 64)
	require.NoError(t, err, "%s", text)
	t.Log(sb.Name(), "has written", n, "bytes")
	return n
}

// TestBranches makes three copies at once, and a copy of a copy: all go on by themselves.
func TestBranches(t *testing.T) {
	ctx := within(t, 8*patience)
	volume := newName(t)
	newVolume(t, volume, msb.WithVolumeKind(msb.VolumeKindDisk), msb.WithVolumeSize(64))
	dir := t.TempDir()
	source := createAs(t, newName(t), msb.WithRootDisk(msb.RootDisk.Managed(256)), named("/data", volume, msb.MountOptions{}), bind("/shared", dir, msb.MountOptions{}))
	pid := shell(t, source, counting, msb.WithExecUser("root"))
	least := count(t, source)
	names := []string{newName(t), newName(t), newName(t)}
	up, err := source.Branch(ctx, names)
	branched(t, up)
	require.NoError(t, err)
	require.Len(t, up, 3)

	const identity = "hostname; ip -4 addr show eth0 | grep -o 'inet [0-9./]*'; cat /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1"
	seen := map[string]string{}
	for _, sb := range append([]*msb.Sandbox{source}, up...) {
		goesOn(t, sb, pid, least)
		lines := strings.Split(shell(t, sb, identity), "\n")
		require.Len(t, lines, 4, lines)
		assert.Equal(t, sb.Name(), lines[0], "its host name")
		for _, l := range lines {
			assert.Empty(t, seen[l], "%s and %s have %q in common", seen[l], sb.Name(), l)
			seen[l] = sb.Name()
		}
		assert.Equal(t, "written kept", shell(t, sb, "echo $(cat /note) $(cat /data/note)"))
		now, err := strconv.ParseInt(shell(t, sb, "date +%s"), 10, 64)
		require.NoError(t, err)
		assert.InDelta(t, time.Now().Unix(), now, 5, "its clock is right")
	}
	for i, sb := range up {
		text := "mine " + strconv.Itoa(i)
		shell(t, sb, "echo "+text+" > /note; echo "+text+" > /data/note; echo "+text+" > /shared/"+sb.Name()+"; sync", msb.WithExecUser("root"))
		assert.Equal(t, text, onHost(t, filepath.Join(dir, sb.Name())), "directories are shared")
	}
	assert.Equal(t, "written kept", shell(t, source, "echo $(cat /note) $(cat /data/note)"))
	for i, sb := range up {
		assert.Equal(t, "mine "+strconv.Itoa(i), shell(t, sb, "cat /data/note"))
	}

	// A branch of a branch; then the first ones go, and it boots by itself. Its source writes
	// the memory that it goes on from once, and no more than what it changed besides.
	began := writtenBy(t, up[0])
	second, err := up[0].Branch(ctx, []string{newName(t)})
	branched(t, second)
	require.NoError(t, err)
	// On overlayfs the kernel counts a copied byte twice.
	assert.Less(t, writtenBy(t, up[0])-began, savedOf(t, up[0])*5/2)
	goesOn(t, second[0], pid, least)
	for _, sb := range append([]*msb.Sandbox{source}, up...) {
		require.NoError(t, sb.Stop(ctx))
	}
	goesOn(t, second[0], pid, least)
	require.NoError(t, second[0].Stop(ctx))
	assertClean(t, upperOf(second[0]))
	again := start(t, second[0].Name())
	assert.Equal(t, "mine 0 mine 0", shell(t, again, "echo $(cat /note) $(cat /data/note)"))
	assert.Empty(t, shell(t, again, "cat /tmp/count 2>/dev/null || true"), "it booted")
}

// TestFullSnapshots keeps a running sandbox, and goes on from there twice: here, and from an
// archive.
func TestFullSnapshots(t *testing.T) {
	ctx := within(t, 8*patience)
	volume := newName(t)
	newVolume(t, volume, msb.WithVolumeKind(msb.VolumeKindDisk), msb.WithVolumeSize(64))
	source := createAs(t, newName(t), msb.WithRootDisk(msb.RootDisk.Managed(256)), named("/data", volume, msb.MountOptions{}))
	pid := shell(t, source, counting, msb.WithExecUser("root"))
	least := count(t, source)
	require.NoError(t, source.Pause(ctx))
	name := newName(t)
	cli(t, "snapshot", "create", name, "--from", source.Name(), "--full").ok(t)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(homePath("snapshots", name))) })
	assert.Equal(t, msb.SandboxStatusPaused, status(t, source.Name()))
	require.NoError(t, source.Resume(ctx))
	goesOn(t, source, pid, least)
	shell(t, source, "echo later > /note; echo later > /data/note; sync", msb.WithExecUser("root"))
	require.NoError(t, source.Stop(ctx))
	cli(t, "snapshot", "verify", name).ok(t)

	restored, err := msb.Restore(ctx, name, newName(t))
	require.NoError(t, err)
	branched(t, []*msb.Sandbox{restored})
	goesOn(t, restored, pid, least)
	assert.Equal(t, "written kept", shell(t, restored, "echo $(cat /note) $(cat /data/note)"))

	archive, there := filepath.Join(t.TempDir(), "full.tar.zst"), t.TempDir()
	cli(t, "snapshot", "save", name, archive).ok(t)
	cli(t, "snapshot", "load", archive, there).ok(t)
	loaded := newName(t)
	cli(t, "restore", filepath.Join(there, name), "--name", loaded).ok(t)
	assert.Equal(t, "written kept", strings.TrimSpace(cli(t, "exec", loaded, "--", "sh", "-c", "echo $(cat /note) $(cat /data/note)").ok(t)))
	cli(t, "exec", loaded, "--", "kill", "-0", pid).ok(t)

	cold := newName(t)
	cli(t, "restore", filepath.Join(there, name), "--name", cold, "--disk-only").ok(t)
	assert.Equal(t, "written none", strings.TrimSpace(cli(t, "exec", cold, "--", "sh", "-c", "echo $(cat /note) $(cat /tmp/count 2>/dev/null || echo none)").ok(t)))
	r := cli(t, "restore", name, "--name", newName(t), "-p", "1:1", "--label", "=")
	assert.NotEqual(t, 0, r.code)
}

// TestBranchInterrupted ends msb branch while it saves, and while the copies come up: of the
// copies nothing is left, and the source runs on.
func TestBranchInterrupted(t *testing.T) {
	source := create(t)
	checkpoints := homePath("cache", "gomsb", "checkpoints")
	for _, at := range []string{"saves", "bears"} {
		names := []string{newName(t), newName(t)}
		cmd := command(t, "branch", source.Name(), "--names", strings.Join(names, ","))
		require.NoError(t, cmd.Start())
		eventually(t, "msb branch "+at, func() bool {
			if at == "bears" {
				return len(runtimes(t, names[0]))+len(runtimes(t, names[1])) > 0
			}
			entries, err := os.ReadDir(checkpoints)
			return err == nil && len(entries) > 0
		})
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		_ = cmd.Wait()
		assert.Equal(t, 130, cmd.ProcessState.ExitCode(), at)
		for _, name := range names {
			eventually(t, "the runtime ends", func() bool { return len(runtimes(t, name)) == 0 })
			_, err := msb.GetSandbox(t.Context(), name)
			assert.True(t, msb.IsKind(err, msb.ErrSandboxNotFound), "%v", err)
			assert.NoDirExists(t, homePath("sandboxes", name))
		}
		entries, err := os.ReadDir(checkpoints)
		require.NoError(t, err)
		assert.Empty(t, entries, at)
	}
	shell(t, source, "true")
}

// TestBranchRefused: what cannot be is said before anything stands still.
func TestBranchRefused(t *testing.T) {
	sb := shared(t)
	for line, text := range map[string]string{
		"branch nosuch --name x":                 "sandbox not found: nosuch",
		"branch shared --name shared":            "cannot both be called shared",
		"branch shared --names a,b -p 8080:80":   "for one copy only",
		"snapshot create x --from nosuch --full": "sandbox not found: nosuch",
		"restore nosuch --name x":                "snapshot not found",
	} {
		r := cli(t, strings.Fields(line)...)
		assert.Equal(t, 1, r.code, line)
		assert.Contains(t, r.stderr, text, line)
	}
	assert.NotContains(t, onHost(t, homePath("sandboxes", sb.Name(), "logs", "runtime.log")), "was saved")
}
