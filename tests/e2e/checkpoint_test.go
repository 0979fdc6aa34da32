//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/launch"
	msb "github.com/gomsb/gomsb/sdk"
)

// askRuntime asks the control socket of a sandbox for something.
func askRuntime(t *testing.T, name string, request any) launch.ControlReply {
	t.Helper()
	agent, err := launch.AgentSocket(homePath("run"), name)
	require.NoError(t, err)
	c, err := net.Dial("unix", launch.ControlSocket(agent))
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	line, err := json.Marshal(request)
	require.NoError(t, err)
	_, err = c.Write(append(line, '\n'))
	require.NoError(t, err)
	answer, err := bufio.NewReader(c).ReadBytes('\n')
	require.NoError(t, err)
	var r launch.ControlReply
	require.NoError(t, json.Unmarshal(answer, &r))
	return r
}

// branch makes one copy of a sandbox.
func branch(t *testing.T, sb *msb.Sandbox) *msb.Sandbox {
	t.Helper()
	all, err := sb.Branch(within(t, 3*patience), []string{newName(t)})
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

// busyGuest has a process that counts into files, one that has read half of a file and one
// that has read half of a directory of the share /data; each goes on when /tmp/go is there.
// The names are so many that they fill the pipe between.
const busyGuest = `
(exec 3>>/root/log; i=0; while :; do i=$((i+1)); echo $i >&3; echo $i > /tmp/count; sleep 0.5; done) </dev/null >/dev/null 2>&1 &
(exec 4</data/lines; read -r a <&4; echo $a > /tmp/first; until [ -e /tmp/go ]; do sleep 0.5; done; read -r b <&4; echo $b > /tmp/second) </dev/null >/dev/null 2>&1 &
(find /data/many -type f | { read -r f; touch /tmp/listing; until [ -e /tmp/go ]; do sleep 0.5; done; { echo $f; cat; } > /tmp/list; touch /tmp/listed; }) </dev/null >/dev/null 2>&1 &
until [ -e /tmp/first ] && [ -e /tmp/listing ] && [ -e /tmp/count ]; do sleep 0.2; done`

// assertGoesOn checks that the processes of busyGuest go on in a sandbox.
func assertGoesOn(t *testing.T, sb *msb.Sandbox, names int) {
	t.Helper()
	count := func() int {
		n, err := strconv.Atoi(shell(t, sb, "cat /tmp/count"))
		if err != nil {
			return 0 // it is being written
		}
		return n
	}
	before := count()
	eventually(t, "it counts on", func() bool { return count() > before })
	shell(t, sb, "echo "+sb.Name()+" > /root/mine; sync; touch /tmp/go; until [ -e /tmp/second ] && [ -e /tmp/listed ]; do sleep 0.2; done")
	assert.Equal(t, "two", shell(t, sb, "cat /tmp/second"))
	assert.Equal(t, fmt.Sprint(names), shell(t, sb, "sort -u /tmp/list | wc -l"), "every name")
	assert.Equal(t, fmt.Sprint(names), shell(t, sb, "wc -l < /tmp/list"), "and none twice")
	assert.Equal(t, "ok", shell(t, sb, `awk '$1 != NR {bad=1} END {print bad ? "a gap" : "ok"}' /root/log`), "the open file has all that was written")
	assert.Equal(t, sb.Name(), shell(t, sb, "hostname"))
	assert.Empty(t, shell(t, sb, "dmesg | grep -iE 'stall|lockup|hung task|I/O error|EXT4-fs error' || true"))
}

// TestCopiesGoOn has a copy, and a copy of that, of a sandbox that is in the middle of things.
func TestCopiesGoOn(t *testing.T) {
	dir := t.TempDir()
	const names = 500
	require.NoError(t, os.Mkdir(filepath.Join(dir, "many"), 0o755))
	for i := range names {
		hostFile(t, filepath.Join(dir, "many", strings.Repeat("n", 200)+strconv.Itoa(i)), "")
	}
	hostFile(t, filepath.Join(dir, "lines"), "one\ntwo\n")
	source := create(t, bind("/data", dir, msb.MountOptions{}))
	shell(t, source, busyGuest)

	saved := filepath.Join(t.TempDir(), "saved")
	r := askRuntime(t, source.Name(), map[string]string{"op": "checkpoint", "dir": saved})
	require.True(t, r.OK, r.Error)
	m, err := checkpoint.Open(saved)
	require.NoError(t, err)
	require.NoError(t, m.Verify(t.Context(), saved))
	assert.Equal(t, source.Name(), m.Source)
	require.Len(t, m.Disks, 1)

	child := branch(t, source)
	require.NoError(t, source.Pause(within(t, patience)))
	grandchild := branch(t, child)
	assertGoesOn(t, grandchild, names)
	assertGoesOn(t, child, names)
	require.NoError(t, source.Resume(within(t, patience)))
	assertGoesOn(t, source, names)
	for _, sb := range []*msb.Sandbox{source, child, grandchild} {
		assert.Equal(t, sb.Name(), shell(t, sb, "cat /root/mine"), "files are apart")
	}
	for _, sb := range []*msb.Sandbox{grandchild, child, source} {
		require.NoError(t, sb.Stop(within(t, patience)))
		assert.Equal(t, msb.SandboxStatusStopped, status(t, sb.Name()))
		assertClean(t, upperOf(sb))
	}
	noTrace(t, source.Name())
	again := start(t, child.Name())
	assert.Equal(t, child.Name(), shell(t, again, "cat /root/mine"), "what was a copy boots by itself")
}

// TestSoftCopy is the least of it, for hosts that emulate the guest's kernel.
func TestSoftCopy(t *testing.T) {
	ctx := within(t, 10*patience)
	name, kid := newName(t), newName(t)
	sb, err := msb.CreateSandbox(ctx, name, msb.WithImage("mini"))
	require.NoError(t, err)
	_, err = sb.Shell(ctx, "(exec 3>/root/log; echo before >&3; until [ -e /tmp/go ]; do sleep 3; done; echo after >&3; touch /tmp/done) </dev/null >/dev/null 2>&1 &")
	require.NoError(t, err)
	all, err := sb.Branch(ctx, []string{kid})
	require.NoError(t, err)
	out, err := all[0].Shell(ctx, "hostname; touch /tmp/go; until [ -e /tmp/done ]; do sleep 1; done; cat /root/log")
	require.NoError(t, err)
	assert.Equal(t, kid+"\nbefore\nafter\n", out.Stdout())
	out, err = sb.Shell(ctx, "hostname; cat /root/log")
	require.NoError(t, err)
	assert.Equal(t, name+"\nbefore\n", out.Stdout())
	require.NoError(t, all[0].Stop(ctx))
	require.NoError(t, sb.Stop(ctx))
	assertClean(t, homePath("sandboxes", kid, "upper.ext4"))
}

// TestCopyOfAChangedSandbox has a copy of a sandbox that has got more processors and memory
// than it started with, and can be changed itself.
func TestCopyOfAChangedSandbox(t *testing.T) {
	ctx := within(t, 5*patience)
	source := create(t, msb.WithCPUs(1), msb.WithMaxCPUs(2), msb.WithMemory(128), msb.WithMaxMemory(384))
	_, err := source.Modify(ctx, msb.ModifyOptions{CPUs: 2, MemoryMiB: 256})
	require.NoError(t, err)
	total := func(sb *msb.Sandbox) int {
		n, err := strconv.Atoi(shell(t, sb, "awk '$1 == \"MemTotal:\" {print $2}' /proc/meminfo"))
		require.NoError(t, err)
		return n >> 10
	}
	eventually(t, "the source has its memory", func() bool { return total(source) > 200 })
	child := branch(t, source)
	assert.Equal(t, "2", shell(t, child, "nproc"))
	assert.InDelta(t, total(source), total(child), 4)
	shell(t, child, "mkdir /m && mount -t tmpfs -o size=150m tmpfs /m && dd if=/dev/zero of=/m/big bs=1M count=140 2>/dev/null && rm /m/big")
	_, err = child.Modify(ctx, msb.ModifyOptions{CPUs: 1, MemoryMiB: 384})
	require.NoError(t, err)
	assert.Equal(t, "1", shell(t, child, "nproc"))
	eventually(t, "the copy has more memory", func() bool { return total(child) > 320 })
	assert.Equal(t, "2", shell(t, source, "nproc"), "the source is as it was")
	grandchild := branch(t, child)
	assert.Equal(t, "1", shell(t, grandchild, "nproc"))
	assert.InDelta(t, total(child), total(grandchild), 4)
}
